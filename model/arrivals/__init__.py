"""Estimates when an entity is at a place, and how likely it is in an area.

    regions    the chance that a forecast position lies in a polygon or a circle
    passages   how long earlier entities took from about here to there
    times      when an entity arrives, from its forecast and such passages
    believing  how far a fleet's passages and forecasts are to be believed, by its own tracks

No module here knows a file, a clock, a broker or the network.
"""
