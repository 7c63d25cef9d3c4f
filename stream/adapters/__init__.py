"""Telemetry sources, one file each. Each yields what `stream.clean` can judge, and judges nothing itself."""
