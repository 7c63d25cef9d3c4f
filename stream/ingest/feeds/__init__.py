"""Takes feeds that broadcast: pollers of HTTP, TCP and UDP, serial ports, gpsd, and files.

None of their sources waits for an acknowledgement. Those that can be held back are: TCP in `sockets`, `polling` and
`files` are not read while Kafka is away. For the others, things are held in memory up to a bound, and what is lost
beyond it is counted and logged (`holding`).
"""
