"""The network as it is trained, in torch: the definition that the compiled serving path is held to.

network       Network: trunk and heads together
transformer   the trunk
positions     how a ping's place in the sequence is encoded
places        the map: vectors of the places that a thing passes
heads         distributions of the next step and of positions ahead, and their loss
queries       what is asked of the network: times ahead, gaps
gap_head      what the network says of a gap
calibration   factors that make a 90 % region hold nine times in ten
cells         the discrete variant, for one experiment
checkpoint    weights to and from disk
"""
