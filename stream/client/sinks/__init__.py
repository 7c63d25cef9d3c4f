"""Carries forecasts from the topic into other stores, at least once, by writes that do no harm when they come twice.

cli         pathcast sink redis, tile38, postgis
running     reads, writes, then commits offsets; waits while Kafka or the store is away
newest      the newest forecast of each entity, and the places ahead
redis_geo   Redis GEO sets: where everything is and will be
tile38      the same as objects of Tile38
postgis     tables of PostgreSQL with PostGIS
"""
