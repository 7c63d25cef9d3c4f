"""When vehicles on a schedule reach their stops: positions and GTFS in, arrivals out.

days        the clock of a schedule: service days, and times counted from noon minus twelve hours
schedule    a GTFS feed as arrays: trips, patterns of stops, links between stops
paths       a line on the ground, and where points and stops lie along it
matching    the progress of one vehicle along the path of its trip
paces       how long links take, of buses before, against the schedule
corrections what is learnt of earlier answers: a regression, and how wide intervals have to be
asking      what is known at one moment of one trip: the numbers that an answer is made of
predictor   pings in, arrivals at the stops ahead out
replaying   a recorded file through the predictor, minute by minute
            (`pathcast transit replay` is in stream.commands.transit)
"""
