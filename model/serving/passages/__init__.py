"""Asks the passages of an atlas in the compiled step: the fast versions of `model.atlas`, one row at a time.

    nearest_compiled     finds the passages nearest to a ping, and where each was when: `buckets.around`, `asking`
    asking_compiled      moves forecasts to where passages went: `asking`
    believing_compiled   mixes a forecast with them: `believing.combine`
    branching_compiled   finds where they part: `branching`
    filling_compiled     moves gap fills to ways on which passages went: `filling`
    ways_compiled        finds by which way a ping came: `ways.ways_in`, `ways.velocities`

tests/model/atlas holds each to its definition: a change there needs a change here.
"""
