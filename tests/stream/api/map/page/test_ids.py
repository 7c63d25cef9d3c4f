"""The ids that the map has beside its entities: which are there, on which side, and as which text."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from node_page import run

VIEW = {"width": 600, "height": 400}
HIGH = 16


def placed(texts: list[dict[str, Any]], others: Sequence[tuple[float, float]] = ()) -> Any:
    """Texts that find a place, among arrows at their own places and at those of others."""
    spots = json.dumps([[None, one["x"], one["y"]] for one in texts] + [[None, *place] for place in others])
    return run(f"placing.place({json.dumps(texts)}, placing.arrows({spots}), {json.dumps(VIEW)})", "drawing/placing.js")


def text(name: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    return {"id": name, "x": x, "y": y, "wide": 40, "high": HIGH, **more}


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["left"] < b["right"] and b["left"] < a["right"] and a["top"] < b["bottom"] and b["top"] < a["bottom"]


@pytest.mark.parametrize("seed", range(5))
def test_no_id_covers_another_an_arrow_or_the_edge_of_the_map(seed: int) -> None:
    rng = random.Random(seed)
    texts = [text(str(n), rng.uniform(0, 600), rng.uniform(0, 400), wide=rng.uniform(15, 120)) for n in range(150)]
    boxes = [one["box"] for one in placed(texts)]
    assert 20 < len(boxes) <= 80, f"seed {seed}"
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2)), f"seed {seed}"
    for one in texts:
        arrow = {"left": one["x"] - 5, "right": one["x"] + 5, "top": one["y"] - 5, "bottom": one["y"] + 5}
        assert not any(overlap(arrow, box) for box in boxes), f"seed {seed}"
    for box in boxes:
        assert min(box["left"], box["top"]) >= 0, f"seed {seed}"
        assert (box["right"] <= 600, box["bottom"] <= 400) == (True, True), f"seed {seed}"


def test_an_id_stays_on_its_side_as_long_as_that_is_free() -> None:
    here = text("a", 300, 200)
    (first,) = placed([here])
    (kept,) = placed([{**here, "side": "above"}])
    (moved,) = placed([{**here, "side": "above"}], [(300, 180)])
    assert (first["side"], kept["side"], moved["side"]) == ("right", "above", "right")


def test_the_chosen_ones_id_is_there_where_no_side_is_free() -> None:
    crowd = [(300.0 + x, 200.0 + y) for x in range(-60, 61, 10) for y in range(-60, 61, 10)]
    here = text("a", 300, 200)
    assert placed([here], crowd) == []
    assert [one["id"] for one in placed([{**here, "forced": True}], crowd)] == ["a"]


def test_few_have_ids_at_any_zoom_more_of_them_near_by_and_a_crowd_none() -> None:
    asked = "[[60, 3], [61, 12], [61, 14], [5000, 16]].map(([count, zoom]) => placing.isRoom(count, zoom))"
    assert run(asked, "drawing/placing.js") == [True, False, True, False]


IDS = {
    "bus 7": "bus 7",
    "vehicle-austin-north-0017": "vehicle…rth-0017",
    "a\u202eb\u2066c\x00\n\td": "abcd",
    "\u200b\u200b": "?",
    "\U0001f68c" * 30: "\U0001f68c" * 7 + "…" + "\U0001f68c" * 8,
    "e" + "\u0301" * 500 + "nd": "e" + "\u0301" * 500 + "nd",
    "ab\ud800": "ab",
}


def test_an_id_on_the_map_is_short_and_turns_no_other_text_around() -> None:
    said = run(f"{json.dumps(list(IDS))}.map(placing.shortened)", "drawing/placing.js")
    assert said == list(IDS.values())
    assert not any(unicodedata.category(one).startswith("C") for one in "".join(said))
