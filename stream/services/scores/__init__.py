"""Live scores: every forecast against what then happened. A process of its own, which reads the forecasts topic alone.

scoring    from a partition's forecasts to scores, and to drifts: no Kafka, no clock
owned      one partition that is ours: what a commit says, so that another can go on
member     one of the group that shares the partitions
settings   what a member is told
sums       what a member counts; `pages` serves it
summaries  tables of scores, and two versions compared: `by_version`, `summaries`, `paired`
cli        the commands; `reading` and `showing` are behind `pathcast models scores`
"""
