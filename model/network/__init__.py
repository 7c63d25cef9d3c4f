"""The network as it is trained, in torch. It is the definition that the compiled serving path has to match.

network       Network: trunk and heads together; a map for weights that have none
transformer   the trunk, and how the position of a ping in its track is encoded
places        the map: learned vectors of the places that a thing passes
heads         the distributions of the answers, and their negative log-likelihoods
calibration   factors that make 90 % regions contain 90 % of the positions
checkpoint    weights to and from disk
"""
