"""The fleet's own map: its passages, and what they say of where a thing goes that came the same way.

    buckets    finds the bucket of a ping: its map cell, and the octant in which it travels
    ways       writes a passage as integers: its place, the way in, its velocity, and the way on
    passages   keeps a bounded number of each bucket, the same ones in any order
    questions  keeps pings of which it is known where the thing went then
    growth     finds passages and questions while pings come
    days       keeps both by day, and whose pings they are; adds many large things up with few additions
    published  makes of passages what may be published: what too few vehicles show is left out
    asking     asks them where a thing goes that came the same way
    branching  says where the passages part that a ping was compared with
    filling    fills gaps along those that went from one end to the other
    believing  says how far a forecast moves to that, and how wide it becomes
    examining  finds out how far a version's passages are to be believed, by its fleet's own questions
    version    writes a version as bytes that can be mapped, and reads them
    atlas      is one version as it is served: read only, named by its bytes

No module here knows a file, a clock, a broker or the network.
"""
