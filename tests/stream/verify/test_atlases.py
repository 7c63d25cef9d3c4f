"""What `pathcast verify` says of forecasts that asked an atlas: of the right one, of another, and of a wrong answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from atlas_rig import Stated, forked, version_of
from atlas_world import announcement
from engine_rig import CHECKPOINT, CRASH, SETTINGS, A, Rig, ping, steady
from msgspec.structs import replace
from verify_rig import moved_north, sound_verdict, verdict, with_fill, with_forecast, wrong

from model.api import Atlas
from stream.engine.assignment import VersionChoice
from stream.verify.versions import Announced
from stream.wire import Forecast, GapFill, Outgoing, loads_forecast, loads_gapfill
from stream.wire.ids import forecast_id

RAW = [version_of(one for name in names for one in steady(name, 250)) for names in ("abcde", "abc", "abcd")]
RAW.append(forked(450.0))
ONE, TWO, STRANGE, FORKED = map(Atlas.of, RAW)
BEGINS, AGAIN, LATE, END = 20, 40, 50, 57  # ONE answers from offset 20 on, TWO from 40
DUE = Stated([BEGINS, AGAIN], [ONE, TWO])
PINGS = [*steady("bus-1", 50), ping("bus-1", 395), ping("bus-1", 500), *steady("bus-2", 5)]  # one of them late


def announced(*served: tuple[Atlas, int]) -> Announced:
    found = Announced(A[0])
    for atlas, first in served or ((ONE, BEGINS), (TWO, AGAIN)):
        found.add(*announcement(atlas.version, "serving", {A[1]: first}))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("atlases")
    for raw in RAW:
        (made / f"{Atlas.of(raw).version}.atlas").write_bytes(raw)
    return made


async def answered(rig: Rig, choice: Stated | None = DUE) -> Rig:
    rig.choice = VersionChoice(choice)
    await rig.feed(*PINGS[:15], CHECKPOINT, *PINGS[15:35], CRASH, *PINGS[35:])
    assert len(rig.out) == END
    return rig


@pytest.fixture
async def history(rig: Rig) -> Rig:
    """Its answers are as they should be."""
    found = await answered(rig)
    assert at(rig, 30).pings > at(rig, 50).pings > 0
    return found


def at(rig: Rig, offset: int) -> Any:
    return loads_forecast(rig.out[offset].value or b"").atlas


def changed(rig: Rig, offset: int, change: Callable[[Forecast], Forecast]) -> list[Outgoing]:
    return [*rig.out[:offset], with_forecast(rig.out[offset], change), *rig.out[offset + 1 :]]


def renamed(version: str | None, *, late: bool = False) -> Callable[[Forecast], Forecast]:
    """Says that it asked this, and has the id for it."""

    def change(forecast: Forecast) -> Forecast:
        assert forecast.atlas is not None
        new_id = forecast_id(forecast.entity_id, forecast.anchor.ts, forecast.model.version, version)
        return replace(forecast, forecast_id=new_id, atlas=replace(forecast.atlas, version=version, late=late))

    return change


def without_branches(found: Forecast) -> Forecast:
    return replace(found, branches=None)


def with_other_shares(found: Forecast) -> Forecast:
    assert found.branches
    return replace(found, branches=tuple(replace(one, share=one.share - 0.02) for one in found.branches))


def with_a_branch_moved(found: Forecast) -> Forecast:
    first, *others = found.branches or ()
    *places, last = first.positions
    moved = replace(first, positions=(*places, replace(last, lat=last.lat + 1e-6)))
    return replace(found, branches=(moved, *others))


# -- what is asked ---------------------------------------------------------------------------------------------------


async def test_of_forecasts_that_asked_what_was_due_there_is_nothing_to_say(history: Rig, folder: Path) -> None:
    for piece in (7, 50):
        report = await sound_verdict(history, announced=announced(), folder=folder, store=history.store, piece=piece)
        assert report.notes == []
        total = report.total
        assert (total.forecasts, total.late_atlas, total.other_atlas, total.without_atlas) == (END, 0, 0, 0)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Stated([BEGINS, 45], [ONE, TWO]), f"asked {ONE.version}, which is older, and not said to be late"),
        (Stated([BEGINS, 35], [ONE, TWO]), f"asked {TWO.version}, which answers from offset 40 on"),
        (Stated([BEGINS, 35, AGAIN], [ONE, STRANGE, TWO]), f"asked {STRANGE.version}, which does not serve"),
        (Stated([25, AGAIN], [ONE, TWO]), f"it asked no atlas, instead of {ONE.version}"),
    ],
    ids=["older", "future", "unknown", "none"],
)
async def test_another_version_is_found_although_its_answer_is_right(
    rig: Rig, folder: Path, asked: Stated, reason: str
) -> None:
    await answered(rig, asked)
    report = await verdict(rig, announced=announced(), folder=folder)
    assert wrong(report) == {"wrong_atlas": 5}, report.examples
    assert reason in report.examples[0].reason


@pytest.mark.parametrize("change", [without_branches, with_other_shares, with_a_branch_moved])
@pytest.mark.parametrize("offset", [22, 36])
async def test_branches_are_compared(
    rig: Rig, folder: Path, change: Callable[[Forecast], Forecast], offset: int
) -> None:
    """Before and behind a crash, behind which states are rebuilt and numbers are compared with a tolerance."""
    await answered(rig, Stated([BEGINS], [FORKED]))
    serving: dict[str, Any] = {"announced": announced((FORKED, BEGINS)), "folder": folder}
    assert await sound_verdict(rig, **serving)
    rig.out[:] = changed(rig, offset, change)
    report = await verdict(rig, **serving)
    assert wrong(report) == {"different": 1}, report.examples
    assert "branches are" in report.examples[0].reason


@pytest.mark.parametrize("asked", [ONE, TWO, None], ids=["the one before", "the one that is due", "none"])
async def test_who_could_not_wait_may_ask_an_older_version_and_is_counted(
    rig: Rig, folder: Path, asked: Atlas | None
) -> None:
    await answered(rig, Stated([BEGINS, AGAIN, 50], [ONE, TWO, asked], late_from=50))
    report = await sound_verdict(rig, announced=announced(), folder=folder)
    assert (report.total.late_atlas, report.total.other_atlas) == (END - 50, 0)
    lies = changed(rig, 54, moved_north(0.02))
    assert wrong(await verdict(rig, lies, announced=announced(), folder=folder)) == {"different": 1}


async def test_no_haste_excuses_a_version_of_the_future(rig: Rig, folder: Path) -> None:
    await answered(rig, Stated([BEGINS, 35], [ONE, TWO], late_from=35))
    report = await verdict(rig, announced=announced(), folder=folder)
    assert wrong(report) == {"wrong_atlas": 5}


# -- what is answered ------------------------------------------------------------------------------------------------

LIES: dict[str, tuple[Callable[[Forecast], Forecast], dict[str, int], str]] = {
    "pings": (
        lambda one: replace(one, atlas=replace(one.atlas, pings=one.atlas.pings + 1)),  # type: ignore[union-attr, type-var]
        {"different": 1},
        "atlas is version",
    ),
    "an id without the version": (
        lambda one: replace(one, forecast_id=forecast_id(one.entity_id, one.anchor.ts, one.model.version)),
        {"different": 1},
        "forecast_id is",
    ),
    "a position": (moved_north(0.02), {"different": 1}, "numbers differ"),
    "another version than the numbers are of": (renamed(ONE.version), {"wrong_atlas": 1, "different": 1}, "atlas"),
    "late, and the numbers are not those of the version": (renamed(ONE.version, late=True), {"different": 1}, "atlas"),
    "null, and the numbers are of a version": (renamed(None, late=True), {"different": 1}, "atlas"),
    "no atlas, and the numbers are of one": (
        lambda one: replace(renamed(None)(one), atlas=None),
        {"different": 1},
        "numbers differ",
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_forecast_that_lies_of_its_atlas_is_found(history: Rig, folder: Path, lie: str) -> None:
    change, found, reason = LIES[lie]
    report = await verdict(history, changed(history, 43, change), announced=announced(), folder=folder)
    assert wrong(report) == found, report.examples
    assert any(reason in one.reason for one in report.examples)


@pytest.mark.parametrize(("more", "found"), [(1, {}), (50, {"different": 1})])
async def test_after_a_late_ping_a_forecast_may_rest_on_some_pings_more_or_less(
    history: Rig, folder: Path, more: int, found: dict[str, int]
) -> None:
    def change(one: Forecast) -> Forecast:
        assert one.atlas is not None
        return replace(one, atlas=replace(one.atlas, pings=one.atlas.pings + more))

    assert loads_forecast(history.out[LATE].value or b"").cache == "rebuilt"
    report = await verdict(history, changed(history, LATE, change), announced=announced(), folder=folder)
    assert wrong(report) == found


async def other(make: Any, choice: Stated | None) -> Sequence[Outgoing]:
    """The answers of a worker that asked something else."""
    return (await answered(Rig(make), choice)).out


async def test_copies_that_asked_different_versions_are_right_if_one_says_that_it_is_late(
    history: Rig, folder: Path, make_predictor: Any
) -> None:
    late = Stated([BEGINS, AGAIN, 45], [ONE, TWO, ONE], late_from=45)
    copies = (await other(make_predictor, late))[45:50]
    for published in ([*history.out, *copies], [*copies, *history.out]):
        report = await sound_verdict(history, published, announced=announced(), folder=folder)
        total = report.total
        assert (total.again, total.late_atlas, total.other_atlas, total.close) == (5, 5, 0, 0)
        lies = [with_forecast(one, moved_north(0.02)) if one is copies[2] else one for one in published]
        assert wrong(await verdict(history, lies, announced=announced(), folder=folder)) == {"different": 1}
    same = (await other(make_predictor, Stated([BEGINS, AGAIN], [ONE, TWO], late_from=45)))[45:50]
    report = await sound_verdict(history, [*history.out, *same], announced=announced(), folder=folder)
    assert (report.total.again, report.total.late_atlas, report.total.close) == (5, 5, 0)
    hasty = (await other(make_predictor, Stated([BEGINS], [ONE])))[45:50]
    report = await verdict(history, [*hasty, *history.out], announced=announced(), folder=folder)
    assert wrong(report) == {"wrong_atlas": 5}


# -- gap fills -------------------------------------------------------------------------------------------------------

WITH_GAP = [*steady("bus-1", 50), *steady("bus-1", 7, 900)]  # closed at offset 50, final at 52


def fills_changed(rig: Rig, change: Callable[[GapFill], GapFill]) -> list[Outgoing]:
    topic = SETTINGS.topics.gapfills
    return [with_fill(one, change) if one.topic == topic else one for one in rig.out]


def asked_by(version: str | None, *, late: bool = False) -> Callable[[GapFill], GapFill]:
    return lambda fill: replace(fill, atlas=replace(fill.atlas, version=version, late=late))  # type: ignore[type-var]


@pytest.fixture
async def filled(rig: Rig) -> Rig:
    rig.choice = VersionChoice(DUE)
    await rig.feed(*WITH_GAP)
    found = [loads_gapfill(one.value or b"") for one in rig.out if one.topic == SETTINGS.topics.gapfills]
    assert [(one.status, one.atlas.version) for one in found if one.atlas and one.atlas.pings] == [
        ("provisional", TWO.version),
        ("final", TWO.version),
    ]
    return rig


FILL_LIES: dict[str, tuple[Callable[[GapFill], GapFill], dict[str, int]]] = {
    "nothing": (lambda fill: fill, {}),
    "another version than was due": (asked_by(ONE.version), {"wrong_atlas": 2}),
    "one that does not serve": (asked_by(STRANGE.version, late=True), {"wrong_atlas": 2}),
    "more pings": (
        lambda fill: replace(fill, atlas=replace(fill.atlas, pings=fill.atlas.pings + 9)),  # type: ignore[union-attr, type-var]
        {"different": 2},
    ),
    "a path that is not that of its version": (
        lambda fill: replace(fill, points=tuple(replace(one, lat=one.lat + 2e-3) for one in fill.points)),
        {"different": 2},
    ),
}


@pytest.mark.parametrize("lie", FILL_LIES)
async def test_a_gap_fill_is_replayed_with_the_version_of_its_ping(filled: Rig, folder: Path, lie: str) -> None:
    change, found = FILL_LIES[lie]
    report = await verdict(filled, fills_changed(filled, change), announced=announced(), folder=folder)
    assert wrong(report) == found, report.examples
    assert (report.total.gap_fills, report.total.other_atlas) == (2, 0)


async def test_the_numbers_of_a_gap_fill_that_asked_another_version_are_not_compared(
    filled: Rig, folder: Path, make_predictor: Any
) -> None:
    """Of a worker that could not wait, of one before this release, and where no replay can ask."""
    late = Rig(make_predictor)
    late.choice = VersionChoice(Stated([BEGINS, AGAIN, 50], [ONE, TWO, ONE], late_from=50))
    await late.feed(*WITH_GAP)
    topic = SETTINGS.topics.gapfills
    hasty = [one for one in late.out if one.topic == topic]
    for fills in (hasty, [with_fill(one, lambda fill: replace(fill, atlas=None)) for one in hasty]):
        published = [*(one for one in filled.out if one.topic != topic), *fills]
        report = await sound_verdict(filled, published, announced=announced(), folder=folder)
        assert (report.total.gap_fills, report.total.other_atlas) == (2, 2)
    report = await sound_verdict(filled)
    assert (report.total.gap_fills, report.total.other_atlas) == (2, 37 + 2)


# -- where there are none --------------------------------------------------------------------------------------------


async def test_answers_of_workers_that_ask_no_atlas_are_judged_without_one(
    rig: Rig, folder: Path, make_predictor: Any
) -> None:
    await answered(rig, None)
    ours = (await other(make_predictor, DUE))[30:]
    published = [*rig.out[:30], *ours]
    report = await sound_verdict(rig, published, announced=announced(), folder=folder)
    assert (report.total.without_atlas, report.total.other_atlas) == (30, 0)
    published[10] = with_forecast(published[10], moved_north(0.02))
    assert wrong(await verdict(rig, published, announced=announced(), folder=folder)) == {"different": 1}


async def test_without_the_option_all_but_the_numbers_of_an_atlas_is_judged(history: Rig) -> None:
    report = await sound_verdict(history)
    assert (report.total.forecasts, report.total.other_atlas) == (END, END - BEGINS)
    for offset, change in {
        3: moved_north(0.02),  # no atlas was asked
        30: lambda one: replace(one, window=replace(one.window, n=1)),
        31: lambda one: replace(one, forecast_id=forecast_id(one.entity_id, one.anchor.ts, one.model.version)),
    }.items():
        assert wrong(await verdict(history, changed(history, offset, change))) == {"different": 1}  # type: ignore[arg-type]


async def test_a_version_without_a_file_is_noted_and_one_that_is_another_is_found(
    history: Rig, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"{TWO.version}.atlas"
    (tmp_path / f"{ONE.version}.atlas").write_bytes(RAW[0])
    report = await sound_verdict(history, announced=announced(), folder=tmp_path)
    assert report.total.other_atlas == END - AGAIN
    assert f"version {TWO.version} of the atlas cannot be read (No such file" in report.notes[0]
    for raw, reason in ((RAW[0], f"is version {ONE.version}"), (RAW[1][:-1], "is damaged"), (b"", "is damaged")):
        path.write_bytes(raw)
        report = await verdict(history, announced=announced(), folder=tmp_path)
        assert wrong(report) == {"wrong_atlas": 1}
        assert (report.examples[0].topic, report.total.other_atlas) == (SETTINGS.topics.models, END - AGAIN)
        assert f"{path} {reason}" in report.examples[0].reason


async def test_a_name_that_is_no_version_is_never_a_path(history: Rig, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.atlas").write_bytes(RAW[0])
    report = await verdict(
        history, changed(history, 43, renamed(f"../{tmp_path.name}/x")), announced=announced(), folder=folder
    )
    assert wrong(report) == {"wrong_atlas": 1}
    assert "no version is called so" in report.notes[0]


async def test_forecasts_without_their_stored_state_must_ask_the_right_version_too(rig: Rig, folder: Path) -> None:
    rig.engine.take_for_new(A, ["bus-1"])
    rig.choice = VersionChoice(Stated([BEGINS, 45], [ONE, TWO]))
    await rig.feed(*steady("bus-1", 50))
    assert {loads_forecast(one.value or b"").cache for one in rig.out} == {"unread"}
    report = await verdict(rig, announced=announced(), folder=folder)
    assert wrong(report) == {"wrong_atlas": 5}, report.examples
    assert report.total.unread == 50
