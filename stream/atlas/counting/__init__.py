"""`pathcast beside atlas`: counts a topic's pings as they come, and makes versions of the atlas.

settings  what a member is told
member    one of the group that shares the partitions: counts, and writes to Redis
history   brings in what the fleet drove before
owned     a partition that is ours
making    makes a version of what Redis holds of all partitions, and announces it
cli       the options
"""
