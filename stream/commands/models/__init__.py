"""`pathcast models`: versions of weights and of atlases in a registry (`stream.registry`).

cli      the group of commands
showing  list, show, diff, decisions
carrying export, import
deciding publish, promote, canary, stop, rollback
guarding guard: rolls back and promotes by live scores; verdicts has its rule
tables   what they print, as text
"""
