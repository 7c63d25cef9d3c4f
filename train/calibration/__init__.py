"""Calibrates weights without training: fits the size of 90 % regions and intervals, and how far forecasts lean to
physics.
"""
