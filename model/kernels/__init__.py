"""Compiled arithmetic that knows no pings: attention over a ring, linear layers, tiles of bfloat16."""
