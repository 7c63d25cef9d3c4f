"""Rounds of a live refresh: which goes on, what stays of them, what bars a version, which options go together."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from train_worlds import MakeCorpus, together, wander
from typer.testing import CliRunner

from model.parameters.reading import from_pretrained, resolve
from stream.registry import Decision
from stream.registry.decisions import What
from stream.registry.golden import LENGTH
from stream.wire import Topics
from train.fit.trainer import Interrupted
from train.refresh.cli import refresh
from train.refresh.live import champion, outcome, rounds, service, serving
from train.refresh.live.champion import LiveRefresh, fetch_weights, read_serving
from train.refresh.live.cli import stop_on_signals
from train.refresh.live.rounds import Round, RoundEnd
from train.refresh.live.service import Away, Patience
from train.refresh.run import RefreshWatch

TOPIC = "pathcast.pings.v1"
V1, V2 = "1" * 16, "2" * 16
APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(refresh)


def filled(round: Round) -> Round:
    for path in (round.pings, round.cache / "x" / "column.npy", round.champion / "w", round.result / "decision.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"challenger": {"version": null}}')
    return round


def test_a_round_that_has_not_ended_goes_on_and_one_that_has_does_not(tmp_path: Path) -> None:
    assert rounds.find_unfinished(tmp_path, TOPIC) is None
    assert rounds.last_started_ms(tmp_path) is None
    begun = rounds.begin_round(tmp_path, TOPIC, V1, 1_790_000_000_123)
    assert rounds.find_unfinished(tmp_path, TOPIC) == begun
    assert begun.folder.name == "20260921T141320.123Z"
    begun.end(RoundEnd("refuse", "because", V2))
    assert rounds.find_unfinished(tmp_path, TOPIC) is None
    assert rounds.last_started_ms(tmp_path) == 1_790_000_000_123


def test_of_ended_rounds_the_newest_stay_without_what_is_large(tmp_path: Path) -> None:
    for number in range(8):
        filled(rounds.begin_round(tmp_path, TOPIC, V1, 1_790_000_000_000 + number)).end(RoundEnd("refuse", "", V2))
    (tmp_path / "notes").mkdir()  # a person's own
    left = filled(rounds.begin_round(tmp_path, TOPIC, V1, 1_790_000_001_000))
    rounds.delete_old(tmp_path)
    folders = sorted(path for path in tmp_path.iterdir() if path.name.startswith("2"))
    assert len(folders) == rounds.KEPT + 1
    assert {path.name for path in folders[0].iterdir()} == {"round.json", "ended.json", "result"}
    assert left.pings.exists(), "the unfinished one has all that it needs"
    assert (tmp_path / "notes").exists()


def test_a_folder_without_its_first_file_is_no_round_and_goes(tmp_path: Path) -> None:
    (tmp_path / "20260921T141320.000Z").mkdir()
    begun = rounds.begin_round(tmp_path, TOPIC, V1, 1_790_000_000_123)
    rounds.delete_old(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [begun.folder.name]


def test_two_refreshes_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        rounds.lock_directory(tmp_path),
        pytest.raises(ValueError, match="another refresh works there"),
        rounds.lock_directory(tmp_path),
    ):
        pass
    with rounds.lock_directory(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "traced"), [(ValueError("topic t holds no ping\nthat is new enough"), False), (KeyError("bug"), True)]
)
def test_a_round_that_a_user_can_make_fail_is_one_line_and_a_bug_has_its_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    traced: bool,
) -> None:
    """`pathcast up` on a topic that has only old pings showed a traceback each day."""
    patience = Patience(waits=True)

    def failing(*given: object) -> RoundEnd:
        patience.stop.set()
        raise error

    monkeypatch.setattr(service, "_run_round", failing)
    live = cast(LiveRefresh, SimpleNamespace(directory=tmp_path, topics=Topics.of("x")))
    with caplog.at_level("INFO", "train"):
        attempt = partial(service.attempt, live, patience, cast(RefreshWatch, None))
        serving.serve(live.directory, live.topics.pings, 60.0, patience.stop, patience.rounds, lambda held: attempt())
    (failed,) = [one for one in caplog.records if "this round failed" in one.getMessage()]
    assert (failed.exc_info is not None) == traced
    if not traced:
        assert failed.getMessage().endswith("in its time: topic t holds no ping that is new enough")


def decision(what: What, version: str, instead_of: str | None = None, ts: int = 5) -> Decision:
    return Decision(what=what, kind="weights", version=version, instead_of=instead_of, ts=ts, by="t", reason="worse")


def test_what_was_rolled_back_or_stopped_is_barred_and_nothing_else() -> None:
    assert outcome.find_bar([decision("rollback", V1, V2)], V2) == f"{V2} was rolled back before: worse"
    assert outcome.find_bar([decision("stop", V2)], V2) == f"{V2} was stopped before: worse"
    harmless = [decision("rollback", V2, V1), decision("promote", V1, V2), decision("refuse", V2), decision("stop", V1)]
    assert outcome.find_bar(harmless, V2) is None


def test_only_decisions_since_a_round_began_are_its_own() -> None:
    decisions = [decision("canary", V1, ts=4), decision("stop", V1, ts=6), decision("refuse", V2, ts=9)]
    assert outcome.find_decision(decisions, V1, 5) == decisions[1]
    assert outcome.find_decision(decisions, V1, 7) is None


async def test_what_others_announced_is_noted_before_it_is_read_what_serves() -> None:
    asked: list[str | None] = []

    class Opened:
        async def catch_up(self, except_version: str | None = None) -> list[Decision]:
            asked.append(except_version)
            return []

        @property
        def serving(self) -> str:
            return f"after {asked}"

    @asynccontextmanager
    async def decider() -> AsyncIterator[Any]:
        yield Opened()

    live: Any = SimpleNamespace(decider=decider)
    assert str(await read_serving(live, V2)) == f"after {[V2]}"


def test_the_challenger_of_an_unfinished_round_is_left_to_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notes the decision with its numbers."""
    left = filled(rounds.begin_round(tmp_path, TOPIC, V1, 1_790_000_000_000))
    (left.result / "decision.json").write_text(f'{{"challenger": {{"version": "{V2}"}}}}')
    asked: list[str | None] = []

    async def read(live: LiveRefresh, challenger: str | None) -> None:
        asked.append(challenger)
        raise ConnectionError

    monkeypatch.setattr(champion, "read_serving", read)
    live: Any = SimpleNamespace(directory=tmp_path, topics=Topics.of(TOPIC.removesuffix(".pings.v1")))
    with pytest.raises(Away):
        service.complete_round(live, Patience(), RefreshWatch())
    assert asked == [V2]


@pytest.mark.parametrize(
    ("serving", "earlier", "what", "reason", "noted"),
    [
        (V1, decision("refuse", V2, ts=9), "refuse", "worse", []),
        (V1, decision("rollback", V1, V2, ts=1), "refuse", f"{V2} was rolled back before: worse", ["refuse"]),
        ("3" * 16, None, "refuse", f"{'3' * 16} serves meanwhile, and it was compared with {V1}", ["refuse"]),
        (V2, None, "promote", "14 % nearer", ["promote"]),
    ],
    ids=["decided before", "rolled back", "outrun", "announced before it was noted"],
)
async def test_a_challenger_is_published_only_where_nothing_speaks_against_it(
    monkeypatch: pytest.MonkeyPatch, serving: str, earlier: Decision | None, what: str, reason: str, noted: list[str]
) -> None:
    """Whatever was killed half-way before: nothing is announced here that was announced, rolled back or outrun."""

    def publish(*_: object) -> None:
        pytest.fail("it was published")

    async def catch_up(except_version: str) -> None:
        """An operator's rollback was announced while the challenger was trained, and is noted only now."""
        assert except_version == V2
        known.extend([] if earlier is None else [earlier])

    @asynccontextmanager
    async def decider() -> AsyncIterator[Any]:
        yield SimpleNamespace(serving=SimpleNamespace(version=serving), canaries=[], catch_up=catch_up)

    monkeypatch.setattr(outcome, "publish_challenger", publish)
    decided: list[Decision] = []
    known = [earlier] if earlier is not None and earlier.what == "refuse" else []
    registry = SimpleNamespace(decisions=lambda: list(known), decide=decided.append)
    live: Any = SimpleNamespace(registry=registry, decider=decider, percent=None)
    found = {"promote": True, "sentence": "Promoted: 14 % nearer", "reasons": ["14 % nearer"]}
    started = SimpleNamespace(champion=V1, started_ms=5)
    round: Any = SimpleNamespace(decision=lambda: found, challenger=V2, started=started)
    assert await outcome.decide_round(live, round) == RoundEnd(what, reason, V2)
    assert [one.what for one in decided] == noted


def test_weights_of_the_registry_appear_whole_in_a_folder(tmp_path: Path) -> None:
    fetched = tmp_path / "fetched"
    shutil.copytree(resolve("small"), fetched)
    registry = SimpleNamespace(
        fetch=lambda kind, version: fetched, manifest=lambda kind, version: SimpleNamespace(metrics={})
    )
    live: Any = SimpleNamespace(registry=registry)
    folder = tmp_path / "round" / "champion"
    folder.parent.mkdir()
    fetch_weights(live, V1, folder)
    assert list(folder.parent.iterdir()) == [folder], "it was written under another name, and renamed"
    assert from_pretrained(folder).fingerprint() == from_pretrained("small").fingerprint()


def test_golden_windows_are_the_newest_of_each_entity(make_corpus: MakeCorpus) -> None:
    long = [wander(f"car-{n}", LENGTH + n, seed=n, start_ms=1_700_000_000_000 + n * 10_000_000) for n in range(6)]
    windows = outcome.newest_windows(make_corpus(together(*long, wander("short", LENGTH - 1, seed=9))), most=2)
    assert [len(window) for window in windows] == [LENGTH, LENGTH]
    assert [int(window["ts_ms"][-1]) for window in windows] == [long[5]["t"][-1], long[4]["t"][-1]]


def test_what_is_away_is_waited_for_or_said() -> None:
    tries: list[int] = []

    def answer() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("nobody there")
        return "here"

    with pytest.raises(Away, match="Kafka cannot be reached: nobody there"):
        Patience().reach("Kafka", answer)
    assert Patience(waits=True, retry_s=0.0).reach("Kafka", answer) == "here"
    assert len(tries) == 3
    with pytest.raises(ValueError, match="broken"):  # not everything is waited for
        Patience(waits=True, retry_s=0.0).reach("Kafka", lambda: int("broken"))


def test_a_signal_ends_what_is_watched_and_the_second_is_not_caught() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        patience = Patience(stop, waits=True)
        watch = patience.watching(RefreshWatch())
        watch.progress(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        for told in (lambda: watch.progress(0.2), lambda: watch.reading("a", 0.1), lambda: patience.reach("x", list)):
            with pytest.raises(Interrupted):
                told()
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "x.csv"], "give --out for files, or --dir and --registry"),
        (["--dir", "d"], "--dir refreshes what serves live, and needs --registry"),
        (["--dir", "d", "--registry", "r", "--out", "o"], "--dir reads the live topic: leave --out out"),
        (["--dir", "d", "--registry", "r", "--data", "x.csv"], "leave --data out"),
        (["--dir", "d", "--registry", "r", "--challenger", "w"], "leave --challenger out"),
        (["--out", "o", "--data", "x.csv", "--registry", "r", "--every", "24h"], "leave --registry, --every out"),
        (["--dir", "d", "--registry", "r", "--canary", "5", "--promote"], "--canary or --promote, not both"),
        (["--dir", "d", "--registry", "r", "--every", "1h", "--json"], "leave --json out"),
        (["--dir", "d", "--registry", "r", "--since", "week"], "'week' is no time like"),
    ],
)
def test_options_of_files_and_of_live_do_not_mix(given: list[str], said: str) -> None:
    result = CliRunner().invoke(APP, given)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.replace("│", " ").split())


def test_the_environment_may_name_a_registry_for_other_commands(tmp_path: Path) -> None:
    environment = {"PATHCAST_REGISTRY": str(tmp_path)}
    result = CliRunner().invoke(APP, ["--data", "none.csv", "--out", str(tmp_path / "o")], env=environment)
    assert "none.csv" in result.output
    assert "leave" not in result.output


def test_a_round_that_does_not_end_when_it_is_told_to_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is still at its imports on a machine that has no time for it: whoever waits for us would kill us."""
    monkeypatch.setattr(serving, "PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr(serving, "END_S", 0.2)
    stop = Event()
    stop.set()
    with rounds.lock_directory(tmp_path) as held:
        assert serving.make_apart(stop, serving.build_notes(None), held)
    with rounds.lock_directory(tmp_path):  # the round held it, too
        pass
