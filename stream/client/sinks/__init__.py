"""Carries forecasts from the topic into other stores, at least once, by writes that do no harm when they come twice.

cli         pathcast export redis, postgis
running     reads, writes, then commits offsets; waits while Kafka or the store is away
redis_geo   Redis GEO sets: where everything is and will be
postgis     tables of PostgreSQL with PostGIS
"""
