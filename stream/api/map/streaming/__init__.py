"""Server-sent events of one map page.

view      the entities that it has, and what is new for it: no clock, no socket
sending   sends that as server-sent events
"""
