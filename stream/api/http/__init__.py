"""The server of the API: who may ask, how much, and how errors are told.

problems      errors as application/problem+json (RFC 9457)
reading       requests into types
asked         the parameters of a request, and its box
limits        token buckets, by client
access        token, origins, the headers of every answer
connections   closes connections that send nothing, and those beyond the limit
application   the routes, and what every request passes through
"""
