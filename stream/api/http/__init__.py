"""The server of the API: who may ask, how much, and how errors are told.

problems      errors as application/problem+json (RFC 9457)
reading       requests into types
asked         the parameters of a request, and its box
tickets       what opens a stream in the token's place, once
server        what the API and the map share: address, bounds, health, the page of metrics
application   the routes, and what every request passes through
"""
