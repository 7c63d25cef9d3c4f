"""What the benchmarks share: servers, workloads, feeding, listening, and reporting."""
