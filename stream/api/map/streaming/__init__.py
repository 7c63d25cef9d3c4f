"""What one page is told.

view      which entities it has, and what is new for it: no clock, no socket
sending   sends that as server-sent events
"""
