"""The programs that run as processes of their own, so that measuring costs the measured one nothing.

feeder       sends pings by schedule
subscriber   receives forecasts, and records when they came
"""
