"""Which version of an atlas answers which ping: a function of the log, never of when a worker has loaded something.

ledger      the rule, from the models topic alone
announcing  brings versions into service
hearing     reads that topic
serving     chooses the version that each ping of a worker asks, and loads it beside the stream
files       where versions lie
"""
