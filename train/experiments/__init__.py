"""Experiments on questions that the tutorial (arXiv 2511.20610) leaves open. Each is a short file that anyone can
rerun.
"""
