"""What follows from facts about Redis, files and this machine."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream.commands.doctor.examining import PARTS, Machine, Part, check_machine
from stream.commands.doctor.files_checks import check_atlases, check_versions, check_weights
from stream.commands.doctor.files_facts import Atlases, Versions, Weights
from stream.commands.doctor.finding import Finding, Level
from stream.commands.doctor.redis_checks import check_clock, check_store
from stream.commands.doctor.redis_facts import Store

OK, UNKNOWN, WARNING, PROBLEM = Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM
INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory": 1_000_000_000,
    "maxmemory_policy": "noeviction",
    "used_memory": 100_000_000,
    "aof_enabled": 1,
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
}
STORE = Store(0.4, 12.0, INFO, "")


def store(**info: Any) -> Store:
    return replace(STORE, info={**INFO, **info})


def odd(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.level is not OK]


def test_a_healthy_redis_has_five_ok_lines() -> None:
    found = check_store(STORE, "redis://x")
    assert [one.level for one in found] == [OK] * 5
    assert odd(check_store(store(redis_version="6.0", valkey_version="8.1.0"), "x")) == []


@pytest.mark.parametrize(
    ("facts", "level", "found", "advice"),
    [
        (store(redis_version="6.2.1"), PROBLEM, "Redis 6.2.1", "Redis 7"),
        (store(role="slave"), PROBLEM, "replica", "master"),
        (store(loading=1), PROBLEM, "loading", "wait"),
        (store(maxmemory_policy="allkeys-lru"), PROBLEM, "when 1,000 MB are full", "noeviction"),
        (store(maxmemory_policy="volatile-lru", maxmemory=0), WARNING, "as soon as", "noeviction"),
        (store(used_memory=999_999_999), WARNING, "1,000 of 1,000 MB", "maxmemory"),
        (store(used_memory=1_000_000_000), PROBLEM, "no checkpoints", "maxmemory"),
        (store(rdb_last_bgsave_status="err"), PROBLEM, "snapshot failed", "disk"),
        (store(aof_enabled=0), WARNING, "neither AOF nor snapshots", "appendonly yes"),
        (replace(store(aof_enabled=0), snapshots=None), UNKNOWN, "may not ask", "redis.conf"),
        (replace(STORE, round_trip_ms=7.0), WARNING, "7.0 ms", "nearer"),
    ],
)
def test_each_fault_of_redis_is_found_with_what_to_do(facts: Store, level: Level, found: str, advice: str) -> None:
    (one,) = odd(check_store(facts, "redis://x"))
    assert (one.level, found in one.found, advice in one.advice) == (level, True, True), one


def test_what_a_user_may_not_ask_is_unknown_and_no_problem() -> None:
    found = odd(check_store(replace(STORE, info=None), "x"))
    assert [one.level for one in found] == [UNKNOWN] * 4
    assert check_clock(None)[0].level is UNKNOWN


def test_clocks_apart_are_a_warning_and_far_apart_a_problem() -> None:
    assert [check_clock(ms)[0].level for ms in (-900.0, 2_000.0, -400_000.0)] == [
        OK,
        WARNING,
        PROBLEM,
    ]
    assert "behind" in check_clock(2_000.0)[0].found
    assert "ahead of" in check_clock(-2_000.0)[0].found


WEIGHTS = Weights("small", name="small", version="a" * 16, golden=True, compiled=True, kernels=[Path("/k")])
ATLASES = Atlases(Path("/srv/atlases"), files=2, announced=2, free_bytes=10**11, total_bytes=10**12)
VERSIONS = Versions("/srv/pathcast", weights=2, atlases=1, checked=1)


def test_files_in_order_are_ok() -> None:
    assert odd([*check_weights(WEIGHTS), *check_atlases(ATLASES), *check_versions(VERSIONS)]) == []
    assert odd(check_weights(replace(WEIGHTS, golden=False))) == []


@pytest.mark.parametrize(
    ("found", "level", "said", "advice"),
    [
        (check_weights(Weights("x", error="cut short")), PROBLEM, "x cannot be used: cut short", "--weights"),
        (check_weights(replace(WEIGHTS, differs="golden forecasts deviate")), PROBLEM, "deviate", "fetch"),
        (check_weights(replace(WEIGHTS, compiled=None, golden=False)), WARNING, "no folder", "NUMBA_CACHE_DIR"),
        (
            check_weights(replace(WEIGHTS, compiled=False, golden=False)),
            WARNING,
            "not compiled",
            "pathcast worker --warm",
        ),
        (check_atlases(Atlases(Path("/x"), error="Permission denied")), PROBLEM, "/x: Permission", "--atlases"),
        (check_atlases(replace(ATLASES, missing=["ab"])), PROBLEM, "announced, and not in", "same directory"),
        (check_atlases(replace(ATLASES, damaged={"ab": "checksum"})), PROBLEM, "ab in /srv", "again"),
        (check_atlases(replace(ATLASES, announced=None)), UNKNOWN, "2 whole files", ""),
        (check_atlases(replace(ATLASES, free_bytes=10**6)), PROBLEM, "0.0 GB free", "room"),
        (check_atlases(replace(ATLASES, free_bytes=10**10)), WARNING, "10.0 GB free", "room"),
        (check_versions(Versions("/x", error="no such")), PROBLEM, "/x: no such", "--registry"),
        (check_versions(replace(VERSIONS, damaged={"ab": "other bytes"})), PROBLEM, "weights ab in", "import"),
        (check_versions(replace(VERSIONS, missing=["ab"])), PROBLEM, "announced are not in", "rollback"),
        (check_machine(Machine(256, "AVX2", False)), WARNING, "at most 256", "ulimit -n"),
        (check_machine(Machine(-1, "none", False)), WARNING, "no AVX2", "processor"),
    ],
)
def test_each_fault_of_files_and_machine_is_found(found: list[Finding], level: Level, said: str, advice: str) -> None:
    (one,) = odd(found)
    assert (one.level, said in one.found, advice in one.advice) == (level, True, True), one


def test_golden_forecasts_are_not_made_where_that_would_compile() -> None:
    (one, kernels) = check_weights(replace(WEIGHTS, compiled=False))
    assert (one.level, kernels.level) == (UNKNOWN, WARNING)


def test_a_server_that_never_answers_costs_its_own_time_and_not_that_of_others() -> None:
    never = threading.Event()
    stuck, quick = Part(never.wait, 0.05), Part(lambda: 7, 5.0)
    assert not stuck.done()
    assert quick.done()
    assert quick.value == 7
    never.set()


def test_the_command_names_the_parts_that_are_examined() -> None:
    from stream.commands.doctor.cli import PARTS as NAMED

    assert NAMED == PARTS
