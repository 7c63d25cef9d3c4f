"""The judgement can fail: a worker with one of delivery's guards taken out (`chaos_worker`) does not pass it, and a
maker of atlases neither that goes on from something else than what it had written.

Under at_least_once, where the guards stand alone; a transaction would hide what `commit_first` breaks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import bus_feed
import pytest
from atlas_scene import slowly
from chaos_rig import Rig
from chaos_verdict import Verdict
from faults_of_atlases import PER_S, assert_each_is_of_the_log, scene_of, start_maker, wait_for_versions

PINGS = 6_000
SLOW_MS = 5_000  # between checkpoints: enough to be replayed


def test_offsets_before_answers_are_found_out(make_rig: Callable[..., Rig]) -> None:
    with make_rig(pings=PINGS, delivery="at_least_once") as rig:
        rig.start(wrong="commit_first")
        rig.feed(rig.fleet())
        rig.reach(0.4)
        rig.kill(rig.workers[0])
        rig.start()
        assert _findings(rig).get("lost", 0) > 0


def test_a_takeover_without_replay_is_found_out(make_rig: Callable[..., Rig]) -> None:
    with make_rig(pings=PINGS, delivery="at_least_once") as rig:
        rig.start(checkpoint_ms=SLOW_MS)
        rig.feed(rig.fleet())
        rig.reach(0.4)
        rig.kill(rig.workers[0])
        rig.start(wrong="no_replay")
        assert _findings(rig).get("different", 0) > 0


@pytest.mark.parametrize("wrong", ["counts_twice", "forgets"])
def test_a_maker_of_atlases_that_goes_on_wrongly_is_found_out(make_rig: Callable[..., Rig], wrong: str) -> None:
    with make_rig(pings=PINGS, delivery="at_least_once") as rig:
        scene, announced = scene_of(rig), threading.Event()
        rig.feed(slowly(bus_feed.fleet(5 * PINGS, seed=rig.seed), announced), over_s=PINGS * rig.haste / PER_S)
        try:
            made = []
            for how in ([], [wrong]):
                maker = start_maker(rig, *how)
                made.append(wait_for_versions(rig, scene, maker, 1))
                maker.kill()  # before it deletes versions that nobody asked
        finally:
            announced.set()
        rig.fed()
        assert_each_is_of_the_log(rig, made[:1])
        with pytest.raises(AssertionError, match="not that of the log"):
            assert_each_is_of_the_log(rig, made[1:])


def _findings(rig: Rig) -> dict[str, int]:
    verdict: Verdict = rig.finish()
    print(verdict.findings)
    return verdict.findings
