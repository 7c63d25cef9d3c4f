"""Has what the benchmarks share: servers, workloads, feeder, subscriber, and reports."""
