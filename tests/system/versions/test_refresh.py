"""`pathcast train refresh --dir` against a real Kafka: what it publishes, announces and notes, whatever kills it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import refresh_rig
from pathcast_process import PATIENCE_S, environment, eventually
from refresh_rig import CARS, PINGS, Rig, weights

from model.parameters.reading import from_pretrained
from stream.config import failpoints
from stream.registry.golden import invent_windows, loads_golden
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.deciding import Why
from stream.wire import WeightsRecord
from train.refresh.decision import DecisionRules
from train.refresh.live import champion, pings, rounds, service, serving
from train.refresh.live.champion import LiveRefresh
from train.refresh.live.outcome import REAL_WINDOWS
from train.refresh.run import RefreshWatch

PROGRAM = Path(refresh_rig.__file__)


@pytest.fixture
def rig(kafka: str, topic_prefix: str, tmp_path: Path) -> Rig:
    return refresh_rig.make(kafka, topic_prefix, tmp_path)


def version_of(folder: Path) -> str:
    return from_pretrained(folder).fingerprint().hex()


def announced(rig: Rig) -> list[WeightsRecord]:
    async def heard() -> list[WeightsRecord]:
        async with AnnouncementReader.open(rig.kafka, rig.topics) as announcements:
            await announcements.look()
            await announcements.look()
            return list(announcements.weights.records)

    return asyncio.run(heard())


def versions(rig: Rig) -> list[str]:
    return [one.version for one in rig.registry.manifests("weights")]


def test_init_is_published_a_worse_challenger_is_noted_and_a_better_one_becomes_a_canary(
    rig: Rig, tmp_path: Path
) -> None:
    init = version_of(tmp_path / "init")
    worse, better = weights(tmp_path / "worse", noise=8.0, seed=2), weights(tmp_path / "better", noise=0.0, seed=3)
    live = rig.live(worse)
    ended = rig.once(replace(live, options=replace(live.options, rules=DecisionRules(fewest_cases=20))))
    assert ended.outcome == "refuse"
    assert "farther off" in ended.reason
    assert versions(rig) == [init], "refused weights are not published"
    assert announced(rig) == []
    (noted,) = rig.registry.decisions()
    assert (noted.what, noted.version, noted.instead_of) == ("refuse", version_of(worse), init)
    assert noted.numbers["judged"][0]["challenger_m"] > noted.numbers["judged"][0]["champion_m"]

    ended = rig.once(rig.live(better))
    assert (ended.outcome, ended.version) == ("canary", version_of(better)), ended.reason
    (record,) = announced(rig)
    assert (record.role, record.version, record.parts, record.state) == ("canary", version_of(better), 500, "serving")
    assert rig.registry.decisions()[-1].what == "canary"
    made = rig.registry.manifest("weights", version_of(better))
    assert (made.parent, made.data.pings, made.data.entities) == (init, CARS * PINGS, CARS)
    assert made.data.to_ts is not None
    assert made.data.from_ts is not None
    assert made.data.to_ts - made.data.from_ts == (PINGS - 1) * refresh_rig.EVERY_S * 1000
    folder = rig.registry.fetch("weights", made.version)
    windows = loads_golden((folder / "golden.json").read_bytes()).windows
    assert len(windows) == len(invent_windows()) + REAL_WINDOWS
    assert max(window[-1][0] for window in windows) == made.data.to_ts, "the newest pings are among them"
    assert str(tmp_path) not in (folder / "README.md").read_text()
    (tmp_path / "again").mkdir()
    champion.fetch_weights(live, made.version, tmp_path / "again" / "champion")
    assert (tmp_path / "again" / "champion" / "trained_on.json").exists(), "a later round knows what it was trained on"

    # What was rolled back does not come again by itself.
    async def roll_back() -> None:
        async with live.decider() as decider:
            await decider.promote(made.version, Why("a person", "test"))
            await decider.rollback(Why("it was worse", "test"), to=init)

    asyncio.run(roll_back())
    ended = rig.once(rig.live(better))
    assert ended.outcome == "refuse"
    assert "was rolled back before: it was worse" in ended.reason


def program(
    rig: Rig, challenger: Path | None, point: str = "", kill_at_step: int = 0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, rig.kafka, rig.prefix, rig.folder, str(challenger or ""), str(kill_at_step)],
        env=environment(**({failpoints.VARIABLE: point} if point else {}), PYTHONPATH=":".join(sys.path)),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )


def test_a_round_that_is_killed_again_and_again_announces_one_version_once(rig: Rig, tmp_path: Path) -> None:
    better = weights(tmp_path / "better", noise=0.0, seed=3)
    for point in failpoints.OF_REFRESH:
        killed = program(rig, better, point)
        assert killed.returncode == -signal.SIGKILL, f"{point}: {killed.stderr}"
        for one in rig.registry.manifests("weights"):
            rig.registry.fetch("weights", one.version)  # whole, or it raises
    made = [folder for folder in (tmp_path / "rounds").iterdir() if folder.is_dir()]
    assert len(made) == 1, "each start went on with the same round"
    assert {path.name for path in made[0].iterdir()} == {"round.json", "ended.json", "result"}
    assert Counter(versions(rig)) == {version_of(tmp_path / "init"): 1, version_of(better): 1}
    assert [(one.what, one.version) for one in rig.registry.decisions()] == [("canary", version_of(better))]
    assert [(one.role, one.serial) for one in announced(rig)] == [("canary", announced(rig)[0].serial)]


def test_training_that_is_killed_goes_on_from_its_checkpoint(rig: Rig) -> None:
    killed = program(rig, None, kill_at_step=12)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = program(rig, None)
    assert again.returncode == 0, again.stderr
    assert "going on with the round" in again.stderr
    assert "going on from step 10 of 20" in again.stderr
    (decision,) = rig.registry.decisions()
    assert decision.what in ("canary", "refuse")


def test_what_is_kept_of_ten_rounds_is_bounded(rig: Rig, tmp_path: Path) -> None:
    made = []
    for number in range(10):
        better = weights(tmp_path / f"better-{number}", noise=1e-4, seed=10 + number)
        ended = rig.once(rig.live(better, keep=service_keep()))
        assert ended.outcome == "canary", ended.reason
        made.append(version_of(better))
    assert set(versions(rig)) == {version_of(tmp_path / "init"), *made[-3:]}
    folders = [folder for folder in (tmp_path / "rounds").iterdir() if folder.is_dir()]
    assert len(folders) == rounds.KEPT
    assert sum(path.stat().st_size for path in (tmp_path / "rounds").rglob("*") if path.is_file()) < 5_000_000
    assert len([one for one in announced(rig) if one.until is None]) == 1, "a newer canary ends the one before"


def service_keep() -> refresh_rig.Retention:
    return refresh_rig.Retention(newest=3, days=0.0)


def test_only_new_pings_are_read_and_those_in_the_archive_once(rig: Rig, tmp_path: Path) -> None:
    refresh_rig.feed(rig, old_ms=5 * 86_400_000)
    where, now_ms = pings.PingTopic(rig.topics.pings, rig.kafka), service.time.time_ns() // 1_000_000
    landed = subprocess.run(
        [sys.executable, "-c", "from stream.commands.main import main; main()", "beside", "archive", "--once"],
        env=environment(
            PATHCAST_BOOTSTRAP=rig.kafka, PATHCAST_PREFIX=rig.prefix, PATHCAST_ARCHIVE=str(tmp_path / "archive")
        ),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert landed.returncode == 0, landed.stderr.decode()
    refresh_rig.feed(rig, old_ms=1_000)  # which is not in the archive
    day, all_days = now_ms - 86_400_000, now_ms - 30 * 86_400_000
    shares: list[float] = []
    count = pings.write_pings(where, tmp_path / "day.parquet", day, progress=shares.append)
    assert count == 2 * CARS * PINGS
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    both = pings.write_pings(where, tmp_path / "both.parquet", all_days, archive=str(tmp_path / "archive"))
    topic = pings.write_pings(where, tmp_path / "topic.parquet", all_days)
    assert both == topic == 3 * CARS * PINGS
    order = [("entity_id", "ascending"), ("t", "ascending")]
    found = [pq.read_table(tmp_path / name).sort_by(order) for name in ("both.parquet", "topic.parquet")]
    assert found[0].equals(found[1])
    with pytest.raises(ValueError, match="holds no ping that is new enough"):
        pings.write_pings(where, tmp_path / "none.parquet", now_ms + 86_400_000)
    assert not (tmp_path / "none.parquet").exists()


def serve(live: LiveRefresh, patience: service.Patience) -> None:
    """Rounds in this process."""
    given = live.directory, live.topics.pings, 3_600.0, patience.stop, patience.rounds
    serving.serve(*given, lambda held: service.attempt(live, patience, RefreshWatch()))


def test_a_service_waits_for_kafka_survives_a_failed_round_and_stops_when_told(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_rig.small_golden_sets()
    caplog.set_level("INFO")
    patience = service.Patience(waits=True, retry_s=0.2)
    live = replace(rig.live(tmp_path / "no such weights"), bootstrap="127.0.0.1:1")
    running = threading.Thread(target=serve, args=(live, patience), daemon=True)
    running.start()
    assert eventually(lambda: "Kafka or the registry cannot be reached, and is waited for" in caplog.text)
    assert not list((tmp_path / "rounds").glob("2*")), "no round has begun"
    patience.stop.set()
    running.join(PATIENCE_S)
    assert not running.is_alive()

    monkeypatch.setattr(serving, "PAUSE_S", 0.1)
    patience = service.Patience(waits=True)
    live = rig.live(tmp_path / "no such weights")
    running = threading.Thread(target=serve, args=(live, patience), daemon=True)
    running.start()
    assert eventually(lambda: "this round failed" in caplog.text and "the next round begins in" in caplog.text)
    patience.stop.set()
    running.join(PATIENCE_S)
    assert not running.is_alive()
    assert rig.registry.decisions() == []
