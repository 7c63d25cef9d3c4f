"""The newest forecast of each entity, in memory, and who is told of it.

newest      the table of entities
topics      reads topics without a group
following   reads the forecasts topic into the table
watching    what one client has been told, and what it is to be told next
sending     sends that as server-sent events, or through a WebSocket
open_streams   how many are open, and how each ends
"""
