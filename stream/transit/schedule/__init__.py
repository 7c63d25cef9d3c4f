"""The schedule of an agency: a GTFS feed in memory.

days     the clock of a schedule: service days, and times counted from noon minus twelve hours
paths    a line on the ground, and where points and stops lie along it
feed     trips, patterns of stops, and links between stops, as arrays
reading  a zip in, a schedule out
"""

from stream.transit.schedule.feed import Pattern, Schedule, Stop, Trip
from stream.transit.schedule.reading import read_schedule

__all__ = ["Pattern", "Schedule", "Stop", "Trip", "read_schedule"]
