"""`pathcast verify`: compares the published answers with a replay of the input.

It publishes and commits nothing, and takes over no partition.
"""
