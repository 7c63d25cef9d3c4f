"""Trips under way, as `pathcast beside transit` publishes them, and as the GTFS-Realtime that trip planners read.

table        the newest record of each trip, in memory
realtime     GTFS-Realtime made of such records
pages        the answers over HTTP, made anew when a record has changed
"""
