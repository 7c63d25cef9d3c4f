"""Compiled arithmetic on arrays: attention over ring buffers, fast and exact layers, tiles of bfloat16."""
