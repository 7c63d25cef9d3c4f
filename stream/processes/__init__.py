"""Processes that we start: each ends when we end, its lines are kept or shown, and its end is noticed.

child    a command of ours, or a server of others: its start, its end, its lines
guard    what ends a server of others when we are gone
keeper   starts one again when it ends, after a pause; stops several at the same time
logs     lines out of what a process writes, and files that stay small
"""
