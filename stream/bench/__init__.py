"""`pathcast bench`: measures throughput, latency and memory on real servers. RESULTS.md has the recorded numbers."""
