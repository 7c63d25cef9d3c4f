"""The fleet's own map, made from its pings: `pathcast train atlas`, `beside atlas`.

follower      finds the pings that are in order, by the rules of a worker's tracks
growing       finds passages while a partition's records come, and keeps what that needs as bytes
growing_days  keeps days while they grow: the newest of them in memory, the rest in a temporary file
building      builds an atlas from a recording or a topic
counting      counts a topic for ever, and makes versions: `pathcast beside atlas`
own           builds the atlas of a file for that file's own gaps and forecasts
replaying     walks recorded pings while an atlas grows
showing       compares atlases, and draws them
cli           the commands
"""
