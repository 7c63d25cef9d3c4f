"""Questions that the tutorial (arXiv 2511.20610) leaves open, each answered by a short file that anyone can rerun."""
