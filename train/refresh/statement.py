"""Writes and checks the statement beside refreshed weights: what they were trained on, until when, and the command that
makes them again. It names the version of the weights, so that it is of no use beside others.

    trained_on.json   {"weights": version, "begun_from": version, "command": ..., "seed": ..., "steps": ...,
                       "pathcast": version, "files": [{"file", "from_ms", "to_ms"}, ...]}

`files` has also what the weights were trained on from which training began, where these have a statement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from model.config import ModelConfig
from model.files import write_whole
from model.parameters.reading import WeightsError, from_pretrained, resolve
from train.refresh.parts import JudgedHours, format_utc

STATEMENT_FILE: Final = "trained_on.json"


@dataclass(frozen=True)
class TrainedSpan:
    """The pings of one file that trained or calibrated."""

    file: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Statement:
    weights: str
    begun_from: str
    command: str
    seed: int
    steps: int
    pathcast: str
    files: tuple[TrainedSpan, ...]

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """Raises ValueError for anything else than a statement."""
        try:
            raw: dict[str, Any] = json.loads(text)
            files = tuple(TrainedSpan(str(one["file"]), int(one["from_ms"]), int(one["to_ms"])) for one in raw["files"])
            return cls(**{**raw, "files": files})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"no statement of what weights were trained on: {error!r:.200}") from error


def read_statement(weights: Path) -> Statement | None:
    """Returns the statement beside weights, None where there is none. Raises ValueError for one that is damaged."""
    path = weights / STATEMENT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text") from error
    return Statement.loads(text)


def write_statement(statement: Statement, weights: Path) -> None:
    write_whole(weights / STATEMENT_FILE, [statement.dumps().encode()])


def join_spans(files: Sequence[TrainedSpan]) -> tuple[TrainedSpan, ...]:
    """Returns one entry for each file name, over all its times."""
    found: dict[str, TrainedSpan] = {}
    for one in files:
        old = found.get(one.file, one)
        found[one.file] = TrainedSpan(one.file, min(old.from_ms, one.from_ms), max(old.to_ms, one.to_ms))
    return tuple(found[name] for name in sorted(found))


FREE: Final = ("name", "places")  # fields of a config that a challenger may have otherwise than its champion


def find_faults(champion: ModelConfig, challenger: str | Path, hours: Sequence[JudgedHours]) -> list[str]:
    """Returns why the challenger must not serve, or be judged by these hours; nothing if it may."""
    try:
        weights = from_pretrained(challenger)
    except WeightsError as error:
        return [f"the weights cannot be used: {error}"]
    try:
        said = read_statement(resolve(challenger))
    except ValueError as error:
        return [str(error)]
    return [*_find_other_fields(champion, weights.config), *_find_overlaps(said, weights.fingerprint().hex(), hours)]


def _find_other_fields(champion: ModelConfig, challenger: ModelConfig) -> list[str]:
    own, theirs = asdict(champion), asdict(challenger)
    other = [name for name in own if name not in FREE and own[name] != theirs[name]]
    return [f"other features or sizes: {name}={theirs[name]} instead of {own[name]}" for name in other]


def _find_overlaps(said: Statement | None, version: str, hours: Sequence[JudgedHours]) -> list[str]:
    """Names the judged hours that the weights may know from training."""
    if said is None:
        return [f"it does not state what it was trained on: {STATEMENT_FILE} is missing"]
    if said.weights != version:
        return [f"its statement of what it was trained on is of other weights ({said.weights}, these are {version})"]
    found = []
    judged = {one.file: one for one in hours}
    for one in said.files:
        # Another file may hold the same pings under another name.
        against = [judged[one.file]] if one.file in judged else hours
        found += [
            f"trained on the judged hours: {one.file} until {format_utc(one.to_ms)}, and {other.file} is judged from "
            f"{format_utc(other.from_ms)} on"
            for other in against
            if one.to_ms >= other.from_ms and (one.file == other.file or one.from_ms <= other.to_ms)
        ]
    return found
