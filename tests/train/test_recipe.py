"""Settings by name: each reaches its field with its type, and a wrong one says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.config import BASE, SMALL
from train.options import BatchOptions
from train.recipe import recipe


def test_settings_reach_the_model_the_batches_and_the_run() -> None:
    made = recipe("small", ["places=500", "positions=time-rope", "query_time=false", "thin=0.25", "ema=0.99"])
    assert (made.config.places, made.config.positions, made.config.query_time) == (500, "time-rope", False)
    assert made.batch.thin == 0.25
    assert made.run == {"ema": 0.99}
    assert recipe("small", ["masks=point, segment"]).batch.masks == ("point", "segment")


def test_nothing_set_is_the_default() -> None:
    assert recipe("small", []) == (SMALL, BatchOptions(), {})
    assert recipe("base", []).config == BASE


def test_a_size_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(BASE.dumps(), encoding="utf-8")
    assert recipe(str(path), []).config == BASE


@pytest.mark.parametrize(
    ("size", "setting", "says"),
    [
        ("small", "plaices=500", "'plaices' is no field: known are .*places"),
        ("small", "places", "no KEY=VALUE"),
        ("small", "places=many", "places must be int"),
        ("small", "query_time=perhaps", "true or false"),
        ("small", "positions=alphabetical", "positions must be one of"),
        ("huge", "places=1", "no size 'huge'"),
    ],
)
def test_what_does_not_exist_is_refused(size: str, setting: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        recipe(size, [setting])
