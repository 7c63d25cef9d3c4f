"""Has what the benchmarks share: servers, workloads, processes, and reports.

servers, topics, stores   a real Kafka and Redis; a benchmark's topics, and what it stores
workload                  pings made of recorded tracks
launch, warm              starts processes, and warms up a worker
programs                  the processes that feed and listen
drain, line               measures workers that drain a topic, and one between feeder and subscriber
proc, stats               CPU time and memory of a process; rates and percentiles
report                    results for a terminal, a program and reports/bench.md
"""
