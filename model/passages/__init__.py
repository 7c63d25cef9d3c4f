"""The memory of passages: where vehicles went that came the same way. It is to take the place of `model.atlas`, whose
sums forget by which way each came; nothing asks it yet. No module here knows a file, a clock, a broker or the network.

    buckets    finds the bucket of a ping: its map cell, and the octant in which it travels
    ways       is a passage as integers: the way in, how it moved, and the way on
    growth     finds passages while pings come
    passages   keeps a bounded number of each bucket, the same ones in any order
    published  makes of them what may be published: what too few vehicles show is left out
    asking     asks them where a thing goes that came the same way
    version    writes them as bytes that can be mapped, and reads them
    believing  says how far a forecast moves to that, and how wide it becomes, as each fleet finds out
"""
