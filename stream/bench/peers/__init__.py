"""Does the same work with other libraries, for comparison: plain Faust, Quix Streams, and our worker without the model.

`compare` runs them, drained (`drained`) and at steady rates (`steady`); `kinds` has the list of them; `faust_agent`,
`quix` and `floor` are separate programs.
"""
