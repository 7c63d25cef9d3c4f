"""Serves health and metrics over HTTP, for programs that watch a process. It knows nothing of what they are about.

http_server    a small server in the process's event loop, and who may read its pages
probes         /healthz, /readyz and /metrics of one process
"""
