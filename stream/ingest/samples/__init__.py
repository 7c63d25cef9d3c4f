"""Recorded vehicles as live sources, to try `pathcast ingest` without a feed or a receiver: `pathcast ingest sample`.

The recordings are replayed as if they ended now, at any pace.
"""
