"""What the verifier said after a fault, and whether it is as promised. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from stream.verify.report import VERDICTS

UNJUDGED: Final = ("open", "unjudged", "quarantined", "unread", "other_model", "other_atlas", "states_skipped")
FINDINGS: Final = VERDICTS


class Verdict(NamedTuple):
    """What the verifier said, and how many records the input topic should have."""

    report: Mapping[str, Any]
    sent: int

    @property
    def total(self) -> Mapping[str, int]:
        return self.report["total"]  # type: ignore[no-any-return]

    @property
    def findings(self) -> dict[str, int]:
        return {name: self.total[name] for name in FINDINGS if self.total[name]}

    def wrong(
        self,
        *,
        allowed: frozenset[str] = frozenset(),
        suspects: frozenset[str] = frozenset(),
        expected: Mapping[str, int] = MappingProxyType({}),
    ) -> list[str]:
        """Why this verdict is no good: findings not allowed, not as many as expected, or not of suspects, and what was
        left unjudged."""
        total = self.total
        found = [f"{count} {name}" for name, count in self.findings.items() if name not in {*allowed, *expected}]
        found += [f"{total[name]} {name}, not {count}" for name, count in expected.items() if total[name] != count]
        if total["records"] != self.sent:
            found.append(f"{total['records']} records judged, {self.sent} were acknowledged to the feed")
        found += [f"{total[name]} {name}" for name in UNJUDGED if total[name] and name not in allowed]
        found += self.report["notes"]  # of what could not be judged
        others = {example["entity"] for example in self.report["examples"]} - suspects
        found += [f"not a gap fill: {one}" for one in self.report["examples"] if _is_lost(one, but="no gap fill")]
        if suspects and others:
            found.append(f"not only suspects: {sorted(map(str, others))}")
        if not total["states"]:
            found.append("no state was compared")
        return found + ([f"e.g. {example}" for example in self.report["examples"]] if found else [])


def _is_lost(example: Mapping[str, Any], *, but: str) -> bool:
    """Whether it is of a lost answer other than those whose reason begins like this."""
    return example["verdict"] == "lost" and not str(example["reason"]).startswith(but)
