"""The fleet's own map, made from its pings: `pathcast atlas`.

follower   finds the pings that are in order, by the rules of a worker's tracks
growing    counts a partition's records as they come (`model.atlas.growth`), and keeps what it needs for that as bytes
kept_days  keeps the sums of days while they grow
building   builds an atlas from a recording or a topic
counting   counts a topic for ever, and makes versions: `pathcast atlas run`
replaying  walks recorded pings while an atlas grows
ledger     which version answers which ping, by the models topic alone
hearing    reads that topic
announcing brings versions into service
serving    chooses the version that each ping of a worker asks
files      where versions lie
diff       compares two atlases
flows      an atlas as GeoJSON, for a map
geoparquet the same as GeoParquet
cli        the commands; times reads the spans of time that they take
"""
