"""The table of faults. Knows their names, what each injects, and what it may cost; injects nothing itself.

A fault is a function of a rig. It starts workers and a feed, does its harm while they are at work, and returns when
what it broke is whole again. Its docstring is what the report says was injected. The judgement is the same for all:
nothing lost, nothing different, nothing unexpected, every state that of an undisturbed run, and under exactly_once
nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos_rig import Rig

Inject = Callable[[Rig], None]


@dataclass(frozen=True)
class Fault:
    """`allowed`: what the verifier finds, or leaves unjudged, that the design accepts under this fault, and `because`
    says why."""

    name: str
    what: str
    inject: Inject
    allowed: frozenset[str] = frozenset()
    because: str = ""
    streams: bool = True  # else it judges itself: it is about no pings


FAULTS: dict[str, Fault] = {}


def register(fault: Fault) -> None:
    assert fault.name not in FAULTS
    FAULTS[fault.name] = fault


def fault(inject: Inject) -> Inject:
    """Puts a function into the table, under its name."""
    register(Fault(inject.__name__, " ".join((inject.__doc__ or "").split()), inject))
    return inject


def fault_that_may(*allowed: str, because: str) -> Callable[[Inject], Inject]:
    """The same, for one that costs something."""

    def enter(inject: Inject) -> Inject:
        what = " ".join((inject.__doc__ or "").split())
        register(Fault(inject.__name__, what, inject, frozenset(allowed), because))
        return inject

    return enter
