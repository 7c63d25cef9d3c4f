"""The programs that run as processes of their own, so that measuring costs the measured one nothing.

feeder       sends pings by schedule
subscriber   receives forecasts, and records when they came
requester    asks an HTTP server by schedule
timed        runs one command to its end, and says what that cost
"""
