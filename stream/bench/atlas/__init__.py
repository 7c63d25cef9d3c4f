"""Measures what an atlas costs a worker.

guided    `pathcast dev bench worker --atlas`: a worker with an atlas beside the same without
latency   `pathcast dev bench latency --atlas`: the latencies of both
filled    makes an atlas of the benchmark's own pings, as large as that of a large fleet
"""
