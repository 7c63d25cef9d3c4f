"""What the demo shows while its worker starts."""

from __future__ import annotations

from stream.demo.parts import starting

LOG = """2026-11-30T07:20:53.783Z INFO loading weights small: the first start on a machine compiles kernels, some 30 s
2026-11-30T07:20:58.783Z INFO compiling kernels: 31 so far, 5 s
2026-11-30T07:21:03.783Z INFO compiling kernels: 82 so far, 10 s
"""


def test_how_far_the_kernels_are_is_shown() -> None:
    """A newcomer saw `starting the worker` and nothing else for a minute and more."""
    assert starting("worker", []) == "starting the worker"
    assert starting("worker", LOG.splitlines()) == "starting the worker (compiling kernels: 82 so far, 10 s)"
