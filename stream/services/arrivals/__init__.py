"""When entities arrive, and how likely they are in an area: destinations and geofences in, arrivals out.

estimate      one estimate of one forecast: a pure function, for this service and for whoever else asks
destinations  the destinations and geofences that are in force, as the topic has them
published     what is published of one forecast: a pure function
unit          one partition of the forecasts, as `stream.services.member` works it off
table         the destinations topic, read by each member whole
history       the fleet's earlier tracks, read from a recording
running       the member, with what it needs beside its units
setting       `pathcast arrivals set`, `clear`, `fence`, `tail`
cli           the app of these commands
"""
