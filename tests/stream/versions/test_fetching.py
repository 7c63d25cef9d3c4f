"""Weights from a registry answer only if they are the version that was asked for, and forecast what they did when they
were published. A version that is refused is tried again, and not in every turn of the loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from model.api import weights_folder
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.versions import loading
from stream.versions.fetching import fetch_weights
from stream.versions.loading import Loader


def published(root: Path, golden_of: str = "small") -> str:
    """Publishes `small` with the golden forecasts of some weights; its version."""
    registry = Registry.open(str(root), None)
    return registry.publish_weights(weights_folder("small"), About(), make_golden(golden_of)).version


def test_weights_that_forecast_what_they_did_are_taken(tmp_path: Path) -> None:
    version = published(tmp_path)
    assert fetch_weights(str(tmp_path), version, 4).version == version


def test_weights_that_forecast_something_else_are_refused(tmp_path: Path) -> None:
    version = published(tmp_path, golden_of="small-research")
    with pytest.raises(ValueError, match="golden forecasts"):
        fetch_weights(str(tmp_path), version, 4)


def test_weights_of_another_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry looks at bytes, and this at what was made of them."""
    version = published(tmp_path)
    monkeypatch.setattr(Registry, "fetch", lambda *asked: weights_folder("small-research"))
    with pytest.raises(ValueError, match="are version"):
        fetch_weights(str(tmp_path), version, 4)


async def test_a_version_that_is_refused_is_not_tried_again_before_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = list[str]()

    def load(version: str) -> str:
        tries.append(version)
        raise ValueError("it is damaged")

    async def ask(times: int) -> None:
        for _ in range(times):
            loader.need({"v1"})
            await asyncio.gather(*loader._loading.values())

    loader = Loader[str]("weights", load)
    monkeypatch.setattr(loading, "RETRY_S", 600.0)
    await ask(20)
    assert tries == ["v1"]
    monkeypatch.setattr(loading, "RETRY_S", 0.0)
    await ask(3)
    assert tries == ["v1"] * 4
    assert loader.refused == {"v1": "it is damaged"}
