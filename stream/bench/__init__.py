"""`pathcast dev bench`: measures throughput, latency and memory on real servers. reports/bench.md has the results.

cli, console   the commands and their options; runs one: servers, progress, results
workers        a worker: how much, how fast, how large
atlas          a worker with an atlas
harness        what benchmarks share, also those of developers in tests/bench
"""
