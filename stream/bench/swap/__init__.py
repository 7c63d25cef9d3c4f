"""`pathcast bench swap`: what pings notice while the weights of a running worker are changed.

cli     its options
run     starts the worker, feeds it, announces the other weights, and reports
phases  what was answered when, and by which weights: the numbers
"""
