"""Finds the trip of a vehicle that does not name it.

candidates  which trips pass a place at a time: an index over the paths of a feed
tracks      how well a vehicle's pings fit one path
assigner    pings in, trips out
"""

from stream.transit.assigning.assigner import Assigner

__all__ = ["Assigner"]
