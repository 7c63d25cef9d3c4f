"""Measures what an operator meets at installation and start: `run` is the benchmark, `installed` adds up what pip
installs, and `kernels` gives each process a folder without kept kernels."""
