"""Weights that answer nobody, scored beside those that serve. Nothing of them is published but scores.

following  which shadows are announced; what they say of the pings whose forecasts are scored
lane       one shadow in one partition: pings in, forecasts out
pings      reads the pings again that were answered
"""
