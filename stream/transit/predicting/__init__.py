"""Predicts arrivals: pings of vehicles on trips in, arrivals at the stops ahead out.

paces        how long links take, of buses before, against the schedule
corrections  what is learnt of earlier answers: a regression, and how wide intervals have to be
residuals    by how much answers were wrong lately, of each link, route, vehicle and trip
asking       what is known at one moment of one trip: the numbers that an answer is made of
predictor    pings in, arrivals out
remembering  what a predictor knows as plain values, and back
"""

from stream.transit.predicting.predictor import Arrivals, Predictor

__all__ = ["Arrivals", "Predictor"]
