"""The formats of live sources: one module each, with a function from bytes to pings, rejects and skips.

They read no socket and no clock: `stream.ingest` brings them the bytes, and the time at which these came. Units are
converted here, so that all that comes out of this room is in metres, m/s, degrees and milliseconds since 1970 UTC.
"""
