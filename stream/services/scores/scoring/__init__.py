"""From the forecasts of one partition to scores. The same records give the same scores.

comparing  one forecast against its entity's pings
waiting    one entity: its pings, and its forecasts whose time has not come
clock      a partition's event time
scorer     one partition: all its entities
drift      whether skill, coverage or cadence have changed for good
"""
