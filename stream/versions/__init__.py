"""Which version of an atlas, and of the weights, answers which ping: a function of the log, never of when a worker has
loaded something.

ledger               the rule for atlases, from the models topic alone, and why a worker can know it
weights              the rule for weights: announcements to all, one after the other, and canaries
announcing           brings versions into service
deciding             promotes, tries and rolls back weights of a registry
announcement_reader  reads the models topic
serving              chooses the versions that each ping of a worker asks: of the `atlases`, and of the `networks`
loading              loads them beside the stream
fetching             fetches weights from a registry, and checks what they forecast
files                where atlases lie
"""
