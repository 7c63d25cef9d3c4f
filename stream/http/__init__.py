"""The server of every page that we serve over HTTP, and what all of them need. It knows nothing of what they are about.

server        listens at an address, with bounds on what a client may send
access        token, origins, the headers of every answer
problems      errors as application/problem+json (RFC 9457)
encodings     whether a client takes what is compressed
limits        bounds the requests of each client, and the connections of a server

Pages for programs that watch a process:

pages         serves them, in the process's event loop
beside        serves them from a thread of its own, for processes without an event loop that is always free
probes        /healthz, /readyz and /metrics of one process
rounds        these pages of a process that works in rounds, and what its loop says of itself
"""
