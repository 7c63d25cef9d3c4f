"""Compiled arithmetic on arrays: attention over ring buffers, linear layers, tiles of bfloat16."""
