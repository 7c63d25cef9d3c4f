"""The fleet's own map: what became of earlier pings, counted by map cell, heading and speed.

    cells      finds the keys of a ping: five cell sizes, each with direction and class of speed, and where it came from
    outcomes   compares what happened after each ping of a track with what physics expected then
    growth     finds them while pings come
    sums       adds outcomes up by key and by buckets of entities: integers, so that the same pings give the same sums
               in any order
    parts      adds many large things up with few additions
    runs       adds up sums of which not all can be in memory, block by block
    days       keeps sums by day, and whose pings they are
    published  makes of them what an atlas holds: old days fade, few entities say nothing, and none says too much
    estimate   reads them for a ping, from the largest cells to the smallest
    atlas      is one version as it is served: read only, named by its bytes
    head       is what weights are asked of an estimate, and how far a forecast moves
    bend       is how far an atlas bends a gap fill
    version    writes them as bytes that can be mapped, and reads them

No module here knows a file, a clock, a broker or the network.
"""
