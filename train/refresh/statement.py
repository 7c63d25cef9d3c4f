"""The statement that lies beside refreshed weights: what they were trained on, until when, and the command that makes
them again. It names the version of the weights, so that it is of no use beside others.

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
from train.refresh.parts import Hours, utc

STATEMENT_FILE: Final = "trained_on.json"


@dataclass(frozen=True)
class Trained:
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
    files: tuple[Trained, ...]

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """Raises ValueError for anything else than a statement."""
        try:
            raw: dict[str, Any] = json.loads(text)
            files = tuple(Trained(str(one["file"]), int(one["from_ms"]), int(one["to_ms"])) for one in raw["files"])
            return cls(**{**raw, "files": files})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"no statement of what weights were trained on: {error!r:.200}") from error


def read(weights: Path) -> Statement | None:
    """Returns the statement beside weights, None where there is none. Raises ValueError for one that is damaged."""
    path = weights / STATEMENT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text") from error
    return Statement.loads(text)


def write(statement: Statement, weights: Path) -> None:
    write_whole(weights / STATEMENT_FILE, [statement.dumps().encode()])


def joined(files: Sequence[Trained]) -> tuple[Trained, ...]:
    """Returns one entry for each file name, over all its times."""
    found: dict[str, Trained] = {}
    for one in files:
        old = found.get(one.file, one)
        found[one.file] = Trained(one.file, min(old.from_ms, one.from_ms), max(old.to_ms, one.to_ms))
    return tuple(found[name] for name in sorted(found))


FREE: Final = ("name", "places")  # fields of a config that a challenger may have otherwise than its champion


def find_faults(champion: ModelConfig, challenger: str | Path, hours: Sequence[Hours]) -> list[str]:
    """Returns why the challenger must not serve, or be judged by these hours; nothing if it may."""
    try:
        weights = from_pretrained(challenger)
    except WeightsError as error:
        return [f"the weights cannot be used: {error}"]
    try:
        said = read(resolve(challenger))
    except ValueError as error:
        return [str(error)]
    return [*_other_features(champion, weights.config), *_trained_on(said, weights.fingerprint().hex(), hours)]


def _other_features(champion: ModelConfig, challenger: ModelConfig) -> list[str]:
    own, theirs = asdict(champion), asdict(challenger)
    other = [name for name in own if name not in FREE and own[name] != theirs[name]]
    return [f"other features or sizes: {name}={theirs[name]} instead of {own[name]}" for name in other]


def _trained_on(said: Statement | None, version: str, hours: Sequence[Hours]) -> list[str]:
    """Says where the weights may know what they would be judged by."""
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
            f"trained on the judged hours: {one.file} until {utc(one.to_ms)}, and {other.file} is judged from "
            f"{utc(other.from_ms)} on"
            for other in against
            if one.to_ms >= other.from_ms and (one.file == other.file or one.from_ms <= other.to_ms)
        ]
    return found
