"""Reads topics and atlases into the memory of the fleet. Nothing here writes, or joins a group.

topics    forecasts or newest forecasts, gap fills and scores
ends      where the logs end, which gives rates and lag
streets   the newest atlas that serves, as arrows
"""
