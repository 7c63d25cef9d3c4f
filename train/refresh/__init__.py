"""A challenger from a fleet's own newest days, and the decision whether it replaces what serves.

cli               `pathcast train refresh`
live              the same beside a running fleet: from its topic to a canary
run               a refresh from end to end; what is written where
parts             what trains, what regions are fitted to, the newest hours by which both are judged
training          how a challenger is trained in minutes
statement         what weights were trained on, beside them; what makes a challenger unfit before anything is judged
comparison        champion and challenger on the same forecasts
reference_tracks  other regions and kinds of vehicles: what trains beside the fleet, and what shows what was forgotten
decision          decide(): pure, with the bounds
"""
