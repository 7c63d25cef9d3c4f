"""The same work done with other libraries, to compare with: plain Faust, Quix Streams, and no model at all.

`compare` runs them; each of the others is a program of its own.
"""
