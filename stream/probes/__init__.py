"""Serves health and metrics over HTTP, for programs that watch a process. It knows nothing of what they are about.

http_server    a small server in the process's event loop, and who may read its pages
beside         the server in a thread of its own, for processes without an event loop that is always free
probes         /healthz, /readyz and /metrics of one process
rounds         these pages of a process that works in rounds, and what its loop says of itself
"""
