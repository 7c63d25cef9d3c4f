"""Trips under way, as `pathcast beside transit` publishes them, and as the GTFS-Realtime that trip planners read.

table        the newest record of each trip, in memory
view         what the map shows of a vehicle's trip, and of a stop
realtime     GTFS-Realtime made of such records
pages        the answers over HTTP, made anew when a record has changed
"""
