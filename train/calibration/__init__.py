"""Fits how wide 90 % regions and intervals are, and how far forecasts lean towards physics, without training."""
