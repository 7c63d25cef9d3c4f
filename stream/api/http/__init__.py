"""The server of the API and the map: its routes and limits. Errors are in stream/http/problems.

requests      reads parameters and bodies into types
tickets       what opens a stream in the token's place, once
server        what the API and the map share: address, bounds, health, the page of metrics
application   the routes, and what every request passes through
"""
