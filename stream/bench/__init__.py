"""`pathcast bench`: what costs how much, on real servers. RESULTS.md has the numbers that were recorded."""
