"""Reads topics and atlases into the memory of the fleet. Nothing here writes, or joins a group.

topics    forecasts or newest forecasts, gap fills, scores and arrivals
ends      where the logs end, which gives rates and lag
streets   the newest atlas that serves, as arrows
basemap   what `--basemap` says, and whether it can be drawn
"""
