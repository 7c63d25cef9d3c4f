"""What the fleet's memory is read from. Nothing here writes, or joins a group.

topics    forecasts or newest forecasts, gap fills and scores
ends      where the logs end, which gives rates and lag
streets   the newest atlas that serves, as arrows
"""
