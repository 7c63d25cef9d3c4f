"""Reads messages of live sources: one reader for each format, from bytes to pings, rejects and skips.

They read no socket and no clock: `stream.ingest` brings them the bytes, and the time at which these came. Units are
converted here, so that all that comes out of this room is in metres, m/s, degrees and milliseconds since 1970 UTC.

parsed          what one message comes to: a ping, a reject or a skip for each thing in it
formats         the formats that have code of their own
mapping         a format that a map describes
presets         maps and formats by name
json_messages   JSON, whatever the bytes are, and its members
snapshots       what repeats in feeds that show every vehicle as it is now
on_topic        messages that lie in the pings topic as they are; option is the command line's `--map`
"""
