"""When vehicles on a schedule reach their stops: positions and GTFS in, arrivals out.

schedule    a GTFS feed in memory
matching    the progress of one vehicle along the path of its trip
assigning   which trip a vehicle is on that does not name it
predicting  pings in, arrivals at the stops ahead out
recordings  the pings of a recorded file
replaying   a recorded file through the predictor, minute by minute
            (`pathcast transit replay` is in stream.commands.transit)
judging     how good the arrivals were, beside simple methods
"""
