"""One entity's track: from the bytes of a record to a fix, and from fixes to a window.

`clean.py` and `track.py` define the rules, one ping at a time; `clean_compiled.py` and `track_table.py` do the same
for a whole batch, and the tests hold them to the definitions.

    clean             a record's bytes to a Ping, or to a Reject with its reason
    clean_compiled    the same for the spelling that most senders use, straight into fixes
    foreign_formats   what came in the place of a ping: Traccar, OwnTracks, Schema Registry and others
    fix               the 20 bytes that a track keeps of a ping
    track             one entity's track: late pings, duplicates, jumps, silences, gaps (`Policy`, `observe`)
    track_table       TrackTable: the tracks of all entities of a process, in columns
"""
