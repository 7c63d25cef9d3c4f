"""The server of every page that we serve over HTTP, and what all of them need. It knows nothing of what they are about.

server        listens at an address, with bounds on what a client may send
connections   closes connections that send nothing, and the idlest one when there are too many
access        token, origins, the headers of every answer
limits        token buckets, by client
log           the log of the servers, without what clients sent

Pages for programs that watch a process:

pages         serves them, in the process's event loop
beside        serves them from a thread of its own, for processes without an event loop that is always free
probes        /healthz, /readyz and /metrics of one process
rounds        these pages of a process that works in rounds, and what its loop says of itself
"""
