"""The fleet as the map knows it. All of it is in memory and bounded; times are arguments.

fleet       all entities, and who has changed
entity      one entity: its track, its former forecasts, and what became of them
moments     a forecast as few bytes
fills       the newest gap fills of each entity
errors      sums of errors by horizon and minute
arrivals    when entities are expected at their destinations
figures     what is told of the fleet once a second
"""
