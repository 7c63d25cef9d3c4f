"""The fleet's own map, made from its pings: `pathcast atlas`.

follower   finds the pings that are in order, by the rules of a worker's tracks
building   counts what became of them (`model.atlas`)
flows      an atlas as GeoJSON, for a map
cli        the commands
"""
