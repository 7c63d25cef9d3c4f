"""What an atlas costs.

guided    `pathcast bench worker --atlas`: a worker with an atlas beside the same without
latency   `pathcast bench latency --atlas`: the latencies of both
filled    makes an atlas of the benchmark's own pings, as large as that of a large fleet
versions  `pathcast bench atlas`: what it takes to make a version
fleet     simulates a fleet for it
"""
