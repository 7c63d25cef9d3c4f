"""`pathcast demo` and `pathcast try`: everything on one machine, with an embedded broker and store.

cli          the demo, and what both show
trial        the same with somebody's own tracks, and the sentence at its end
run          feeds recorded tracks, starts a worker, waits for the forecasts
atlas        makes an atlas of the pings before the replay, lets it grow, and asks the model without it
hidden_gaps  hides stretches of the tracks, fills them, and compares
board        scores them as they come, and makes the summary
parts        its worker and its map, which are started as `pathcast up` starts them
sample       hours of buses, and a day of their fleet before
"""
