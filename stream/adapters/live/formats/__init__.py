"""Has one module for each format that has code of its own. Formats that are only a map are in `presets`.

adsb            aircraft.json of readsb and dump1090-fa
ais             NMEA sentences of ships, and the categories of their types
gpsd            JSON reports of gpsd
gtfs_realtime   VehiclePositions of transit agencies
nmea            NMEA 0183 of GPS receivers
owntracks       JSON of the OwnTracks apps
pathcast        pings of ours
traccar         the JSON in which Traccar forwards positions
"""
