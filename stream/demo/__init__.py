"""`pathcast demo`: runs everything on one machine, with an embedded broker and store.

cli          the command
run          feeds recorded buses, starts a worker, waits for the forecasts
atlas        makes an atlas of the pings before the replay, lets it grow, and asks the model without it
board        scores them as they come, and makes the summary
parts        its worker and its map, which are started as `pathcast up` starts them
sample       hours of buses, and a day of their fleet before
"""
