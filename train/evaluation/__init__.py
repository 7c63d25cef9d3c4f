"""The evaluation: forecasts, gap fills and travel times of a model against physics and trees.

run                what `pathcast evaluate` does
forecasts          errors by horizon and stratum; travel_times and gap_fills do the same for their questions
metrics            mean error, CRPS, coverage, and their confidence intervals
rollout            runs a predictor along recorded tracks, ping by ping
fitted_filters     Kalman filters fitted to the training split; trees has LightGBM
atlas              an atlas that grows from the pings of the file while its forecasts are judged
dead_reckoning     forecasts from the reported speed and course
published          what a subscriber would have read
report, plots      tables, sentences and pictures
"""
