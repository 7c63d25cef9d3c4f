"""The server of every page that we serve over HTTP, and what all of them need. It knows nothing of the pages.

server        listens at an address, with bounds on what a client may send
connections   closes connections that send nothing, and the idlest one when there are too many
access        token, origins, the headers of every answer
limits        token buckets, by client
log           the log of the servers, without what clients sent
"""
