"""The benchmark of the HTTP API beside a worker (`pathcast bench serve`).

cli   its options
run   the measurements and their report
"""
