"""Looks for what makes a challenger unfit before anything is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from model.config import ModelConfig
from model.parameters.reading import WeightsError, from_pretrained, resolve
from train.refresh import statement
from train.refresh.parts import Hours, utc
from train.refresh.statement import Statement

FREE: Final = ("name", "places")  # fields of a config that a challenger may have otherwise than its champion


def faults(champion: ModelConfig, challenger: str | Path, hours: Sequence[Hours]) -> list[str]:
    """Returns why the challenger must not serve, or be judged by these hours; nothing if it may."""
    try:
        weights = from_pretrained(challenger)
    except WeightsError as error:
        return [f"the weights cannot be used: {error}"]
    try:
        said = statement.read(resolve(challenger))
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
        return [f"it does not state what it was trained on: {statement.STATEMENT_FILE} is missing"]
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
