"""The baselines that a model has to beat.

dead_reckoning   goes on at the reported speed and course
fitted_filters   Kalman filters, whose noise is fitted to the train split
trees            gradient-boosted trees on the last steps (LightGBM)
"""
