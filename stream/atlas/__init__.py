"""The fleet's own map, made from its pings: `pathcast atlas`.

follower   finds the pings that are in order, by the rules of a worker's tracks
building   counts what became of them (`model.atlas`)
replaying  walks recorded pings while an atlas grows
flows      an atlas as GeoJSON, for a map
ledger     which version answers which ping, by the models topic alone
hearing    reads that topic
announcing brings versions into service
cli        the commands
"""
