"""`pathcast bench`: measures throughput, latency and memory on real servers. RESULTS.md has the recorded numbers.

cli, options   the commands, and the options that several have
console        runs one for the command line: servers, progress, results
workers        a worker: how much, how fast, how large, how soon again
start          what a cold start costs
serving        `pathcast serve` beside a worker
swap           what a change of weights costs
atlas          what an atlas costs
scores         what scoring costs
peers          other programs for the same task
harness        what benchmarks share
"""
