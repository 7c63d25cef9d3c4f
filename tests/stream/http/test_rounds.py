"""A process that works in rounds is told from one that hangs, and from one that waits as it should."""

from __future__ import annotations

import json

from stream.http.rounds import RoundPages, Rounds

EVERY_S, HANG_S = 60.0, 300.0


class World:
    """Rounds with a clock that the test moves, and their pages."""

    def __init__(self, every_s: float | None = EVERY_S) -> None:
        self.now_s = 1_000.0
        self.rounds = Rounds("guard", every_s, ("promote", "rollback"), hang_s=HANG_S, clock=self._now, wall=self._now)
        self._pages = RoundPages(self.rounds).pages()

    def _now(self) -> float:
        return self.now_s

    async def page(self, path: str) -> tuple[int, list[str]]:
        status, _, body = await self._pages[path].answer()
        return status, json.loads(body)["reasons"]

    async def metrics(self) -> dict[str, str]:
        lines = (await self._pages["/metrics"].answer()).body.decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith("pathcast_guard_"))


async def test_a_loop_that_gives_no_sign_of_life_is_dead_and_one_that_does_lives_on() -> None:
    world = World()
    world.rounds.begin()
    world.now_s += HANG_S
    assert (await world.page("/healthz"))[0] == 200
    world.rounds.alive()
    world.now_s += HANG_S
    assert (await world.page("/healthz"))[0] == 200
    world.now_s += 10
    assert await world.page("/healthz") == (503, ["nothing was heard of guard for 10 s too long"])
    assert (await world.page("/readyz"))[0] == 503, "who hangs does no work"
    world.rounds.alive()
    assert (await world.page("/healthz"))[0] == 200


async def test_a_wait_is_no_hang_until_the_next_round_is_long_overdue() -> None:
    world = World()
    world.rounds.wait(86_400)
    world.now_s += 86_400 + HANG_S
    assert (await world.page("/healthz"))[0] == 200
    world.now_s += 1
    assert (await world.page("/healthz"))[0] == 503


async def test_what_is_away_makes_it_not_ready_and_not_dead() -> None:
    world = World()
    assert await world.page("/readyz") == (200, [])
    world.rounds.hindered("Kafka cannot be reached")
    assert await world.page("/readyz") == (503, ["Kafka cannot be reached"])
    assert (await world.page("/healthz"))[0] == 200
    world.rounds.hindered(None)
    assert await world.page("/readyz") == (200, [])


async def test_rounds_and_decisions_are_counted_and_the_last_one_is_described() -> None:
    world = World()
    before = await world.metrics()
    assert before["pathcast_guard_last_done_timestamp_seconds"] == "1000.0", "the start, so that it can be overdue"
    assert before['pathcast_guard_decisions_total{what="rollback"}'] == "0.0", "a first one has a sample before it"
    assert "pathcast_guard_last_round_ok" not in before
    world.rounds.begin()
    world.now_s += 7
    world.rounds.done("rollback")
    world.rounds.begin()
    world.now_s += 3
    world.rounds.failed()
    assert await world.metrics() == {
        'pathcast_guard_rounds_total{outcome="done"}': "1.0",
        'pathcast_guard_rounds_total{outcome="failed"}': "1.0",
        'pathcast_guard_decisions_total{what="promote"}': "0.0",
        'pathcast_guard_decisions_total{what="rollback"}': "1.0",
        "pathcast_guard_last_round_ok": "0.0",
        "pathcast_guard_last_round_duration_seconds": "3.0",
        "pathcast_guard_last_done_timestamp_seconds": "1007.0",
        "pathcast_guard_round_interval_seconds": "60.0",
    }


async def test_a_single_round_has_no_interval() -> None:
    assert "pathcast_guard_round_interval_seconds" not in await World(every_s=None).metrics()
