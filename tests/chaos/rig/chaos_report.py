"""What runs of the chaos suite found, as Markdown. Runs nothing.

A report can be continued: what it has of a fault, a seed and a guarantee stays until that is run again.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from chaos_rig import PARTITIONS
from chaos_verdict import FINDINGS, UNJUDGED
from faults import Fault

from stream.bench.harness.servers import KAFKA

SESSION = "- Session: "
COLUMNS = (
    *("fault", "seed", "guarantee", "pings", "seconds", "forecasts (close)", "copies", "states (close)", "restarts"),
    "found",
)


class Entry(NamedTuple):
    """One fault, once."""

    fault: Fault
    seed: int
    delivery: str
    pings: int
    seconds: float
    restarts: Sequence[str]  # last words of workers that ended by themselves and were started again
    notes: Sequence[str]
    total: Mapping[str, int]  # the verifier's; empty if it came to no verdict
    wrong: Sequence[str]  # empty: as promised

    @property
    def found(self) -> str:
        if not self.fault.streams:
            return "held" if not self.wrong else "; ".join(self.wrong)
        if not self.total:
            return f"**no verdict**: {'; '.join(self.wrong)}"
        told = [name for name in (*FINDINGS, *UNJUDGED) if self.total[name]]
        findings = ", ".join(f"{self.total[name]:,} {name}" for name in told)
        if not findings and not self.wrong:
            unread = self.total["unread"]
            return f"nothing is wrong; {unread:,} say that they were answered as new" if unread else "nothing is wrong"
        return f"{findings}; all of it accepted, see below" if not self.wrong else f"**{'; '.join(self.wrong[:2])}**"


def _commit() -> str:
    """Which code is run."""
    command = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown: not in a clone"


@dataclass
class Earlier:
    """What a report has of sessions before this one: lines of its file."""

    sessions: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)  # by "| fault | seed | guarantee |"
    injected: dict[str, str] = field(default_factory=dict)  # by fault

    @classmethod
    def of(cls, path: Path) -> Earlier:
        lines = path.read_text().splitlines() if path.exists() else []
        rows = (line for line in lines if re.match(r"\| \w+ \| \d+ \|", line))
        injected = (line for line in lines if re.match(r"- \*\*\w+\*\*: ", line))
        return cls(
            [line for line in lines if line.startswith(SESSION)],
            {_case(row): row for row in rows},
            {line.split("**")[1]: line for line in injected},
        )


def _case(row: str) -> str:
    return "|".join(row.split("|")[:4])


@dataclass
class Report:
    """All entries of a session, in a file from the first on: a session takes long, and may be interrupted."""

    path: Path | None
    earlier: Earlier = field(default_factory=Earlier)
    entries: list[Entry] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    commit: str = field(default_factory=_commit)  # before the file is written, which is in the clone, too

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self.path is not None:
            self.path.write_text("\n".join(self._lines()) + "\n")

    def _session(self) -> str:
        minutes = (datetime.now(UTC) - self.began).total_seconds() / 60
        what = f"{minutes:.0f} minutes, commit {self.commit}, {len(self.entries)} runs"
        return f"{SESSION}{self.began:%d %B %Y, %H:%M} UTC, {what}: `pytest {shlex.join(sys.argv[1:])}`"

    def _lines(self) -> Sequence[str]:
        ours = {_case(row): row for row in map(self._row, self.entries)}
        rows = sorted({**self.earlier.rows, **ours}.values(), key=lambda row: int(row.split("|")[2]))  # by seed
        bad = sum("**" in row for row in rows)
        seeds = ", ".join(sorted({row.split("|")[2].strip() for row in rows}))
        pings = sum(int(row.split("|")[4].replace(",", "")) for row in rows)
        return [
            "# What the chaos suite found",
            "",
            f"{len(rows)} runs of seeds {seeds}; {pings:,} pings: "
            + (f"**{bad} not as promised.**" if bad else "all as promised."),
            "",
            *self.earlier.sessions,
            self._session(),
            f"- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python "
            f"{platform.python_version()}, shared with other work",
            f"- Three Apache Kafka {KAFKA} brokers (KRaft, replication 3, at least 2 in sync), Redis, and workers with "
            f"a session timeout of 6 s, all on loopback; {PARTITIONS} partitions; the feed is the bundled buses with "
            "late, repeated and broken records among them",
            "- Judged by `pathcast verify --redis` after each fault: every record's answers and every stored state "
            "against a replay; close is within the tolerance of a rebuilt state, not equal. Restarts are of workers "
            "that ended by themselves and were started again.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            f"|{'---|' * len(COLUMNS)}",
            *rows,
            "",
            "## What was injected",
            "",
            *{**self.earlier.injected, **self._injected()}.values(),
            *self._ends(),
        ]

    def _row(self, entry: Entry) -> str:
        total = entry.total
        answers = f"{total['forecasts']:,} ({total['close']:,})" if total else "-"
        figures = [answers, f"{total['again']:,}" if total else "-"]
        states = f"{total['states']:,} ({total['states_close']:,})" if total else "-"
        cells = [entry.fault.name, entry.seed, entry.delivery if entry.fault.streams else "-", f"{entry.pings:,}"]
        cells += [f"{entry.seconds:.0f}", *figures, states, len(entry.restarts), entry.found]
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    def _injected(self) -> dict[str, str]:
        lines = {}
        for fault in {entry.fault.name: entry.fault for entry in self.entries}.values():
            accepted = (
                f" Accepted: {', '.join(sorted(fault.allowed))}, because {fault.because}." if fault.allowed else ""
            )
            notes = sorted({note for entry in self.entries if entry.fault is fault for note in entry.notes})
            done = f" Done: {'; '.join(notes)}." if notes else ""
            lines[fault.name] = f"- **{fault.name}**: {fault.what}{done}{accepted}"
        return lines

    def _ends(self) -> Sequence[str]:
        """Why workers ended by themselves, where some did."""
        ended = [(entry, words) for entry in self.entries for words in entry.restarts]
        if not ended:
            return []
        return ["", "## Workers that ended by themselves", ""] + [
            f"- {entry.fault.name}, seed {entry.seed}: `{words[:200]}`" for entry, words in ended
        ]
