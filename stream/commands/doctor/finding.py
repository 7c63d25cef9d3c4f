"""What was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and something is to be considered
    PROBLEM = "problem"  # it does not work, or will lose something
    UNKNOWN = "unknown"  # it cannot be known, with the rights that we have


class Finding(NamedTuple):
    check: str  # of what, such as "topic pathcast.pings.v1"
    level: Level
    found: str
    advice: str = ""  # what to do; empty if nothing is to be done


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.PROBLEM, found, advice)


def unknown(check: str, found: str, advice: str = "") -> Finding:
    return Finding(check, Level.UNKNOWN, found, advice)


def has_problem(findings: Iterable[Finding]) -> bool:
    return any(one.level is Level.PROBLEM for one in findings)
