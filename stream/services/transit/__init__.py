"""`pathcast beside transit`: a record of each trip of a schedule that is under way, with the times at its stops ahead.

fleet       all vehicles and their trips, of all partitions, and what was learnt: pure
records     the record of one trip at a moment: pure
unit        one partition: what is published, what is over, and its takeover from the trips topic
following   reads the pings of all partitions into the fleet
feeds       the zip of the schedule, and a new one in its place
snapshot    the fleet as a file, for the next start
running     the member, with what runs beside its units
cli         its options
"""
