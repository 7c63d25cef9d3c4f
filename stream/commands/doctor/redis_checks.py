"""What follows from facts about Redis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stream.commands.doctor.finding import Finding, ok, problem, unknown, warning
from stream.commands.doctor.redis_facts import Store

OLDEST: Final = 7  # EVAL_RO, which workers use, came with Redis 7
KEEPS: Final = "noeviction"
FULL: Final = 0.8  # of maxmemory
SLOW_MS: Final = 5.0  # of a round trip: a checkpoint takes dozens
SKEW_MS: Final = 1_000.0
LATE_MS: Final = 300_000.0  # how late a ping may be: with clocks that far apart, none would be on time
INFO_RIGHT: Final = "give the user +info to have it checked (deploy/SECURITY.md)"


def check_store(facts: Store, where: str) -> list[Finding]:
    found = list(_speed(facts, where))
    if facts.info is None:
        unseen = ("version", "maxmemory-policy", "memory", "persistence")
        return [*found, *(unknown(f"redis {name}", "we may not ask", INFO_RIGHT) for name in unseen)]
    return [*found, *_version(facts.info), *_policy(facts.info), *_memory(facts.info), *_persistence(facts)]


def check_clock(ahead_ms: float | None) -> list[Finding]:
    """Returns whether the clock of Redis and of this machine agree; Kafka tells nobody its time."""
    check = "clock, by redis"
    if ahead_ms is None:
        return [unknown(check, "we may not ask for its time", "give the user +time (deploy/SECURITY.md)")]
    said = f"this machine is {abs(ahead_ms) / 1000:,.1f} s {'behind' if ahead_ms > 0 else 'ahead of'} it"
    advice = "set the clocks of both by NTP"
    if abs(ahead_ms) >= LATE_MS:
        return [problem(check, said, advice)]
    return [warning(check, said, advice) if abs(ahead_ms) >= SKEW_MS else ok(check, said)]


def _speed(facts: Store, where: str) -> Iterator[Finding]:
    said = f"{where}, a round trip takes {facts.round_trip_ms:.1f} ms"
    if facts.round_trip_ms > SLOW_MS:
        yield warning("redis", said, "put it nearer to the workers, or look at what else it does (SLOWLOG)")
    else:
        yield ok("redis", said)


def _version(info: Mapping[str, Any]) -> Iterator[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    text = str(info.get("valkey_version") or info.get("redis_version", "unknown"))
    if str(info.get("role", "master")) != "master":
        yield problem("redis version", f"{name} {text} is a replica, which takes no writes", "give --redis its master")
    elif info.get("loading"):
        yield problem("redis version", f"{name} {text} is still loading its data", "wait, and look again")
    elif name == "Redis" and text.partition(".")[0].isdecimal() and int(text.partition(".")[0]) < OLDEST:
        yield problem("redis version", f"Redis {text}", "workers need Redis 7 or Valkey: update it")
    else:
        yield ok("redis version", f"{name} {text}")


def _policy(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy, limit = str(info.get("maxmemory_policy", KEEPS)), int(info.get("maxmemory", 0))
    advice = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if policy == KEEPS:
        yield ok("redis maxmemory-policy", policy)
    elif limit:
        yield problem(
            "redis maxmemory-policy", f"{policy}: it deletes states when {limit / 1e6:,.0f} MB are full", advice
        )
    else:
        yield warning("redis maxmemory-policy", f"{policy}: it would delete states as soon as maxmemory is set", advice)


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        yield ok("redis memory", f"{used / 1e6:,.0f} MB used, no maxmemory")
        return
    said = f"{used / 1e6:,.0f} of {limit / 1e6:,.0f} MB used"
    if used >= limit:
        yield problem("redis memory", f"{said}: it takes no checkpoints", "raise maxmemory: 4 to 12 KB for each entity")
    elif used >= FULL * limit:
        yield warning("redis memory", said, "raise maxmemory: 4 to 12 KB for each entity, for seven days")
    else:
        yield ok("redis memory", said)


def _persistence(facts: Store) -> Iterator[Finding]:
    info, check = facts.info or {}, "redis persistence"
    appends = bool(info.get("aof_enabled"))
    for failed, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "append")):
        if info.get(failed, "ok") != "ok":
            yield problem(check, f"its last {what} failed, and it may take no writes", "look at its log, and its disk")
            return
    if appends:
        yield ok(check, "it appends to a file (AOF)")
    elif facts.snapshots is None:
        yield unknown(check, "no AOF; whether it makes snapshots we may not ask", "see `save` in redis.conf")
    elif facts.snapshots:
        yield ok(check, f"snapshots (save {facts.snapshots})")
    else:
        yield warning(
            check,
            "neither AOF nor snapshots: what it holds is gone when it restarts",
            "appendonly yes. Without it states are made again from at most 64,000 records of a partition",
        )
