"""The evaluation: forecasts, gap fills and arrivals of a model against physics and trees.

run             what `pathcast evaluate` does; `cli` has its options
forecasts       errors by horizon and stratum
gap_fills       the same for pings that were hidden between two others
arrivals        the same for when an entity that is on its way is at a place
metrics         mean error, CRPS, coverage, and their confidence intervals
rollout         runs a predictor along recorded tracks, ping by ping
baselines       what a model has to beat: dead reckoning, fitted filters, trees
atlas           an atlas that grows from the pings of the file while its forecasts are judged
published       what a subscriber would have read
report, plots   tables, sentences and pictures
"""
