"""One entity's track: from the bytes of a record to a fix, and from fixes to a window.

`clean.py` and `track.py` define the rules, one ping at a time. `clean_compiled.py` and `track_table.py` are the fast
versions for a whole batch; the tests hold them to the definitions.

    clean             turns a record's bytes into a Ping, or into a Reject with its reason
    clean_compiled    does the same for the spelling that most senders use, straight into fixes
    json_values       reads single JSON values from bytes, in compiled code
    foreign_formats   recognises other formats sent as pings: Traccar, OwnTracks, Schema Registry and others
    fix               the 20 bytes that a track keeps of a ping
    track             one entity's track: late pings, duplicates, jumps, silences, gaps (`Policy`, `observe`)
    track_table       TrackTable: the tracks of all entities of a process, in columns
"""
