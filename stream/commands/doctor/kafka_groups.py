"""What follows from facts about brokers, groups and times of records. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stream.commands.doctor.finding import Finding, ok, problem, unknown, warning
from stream.commands.doctor.kafka_facts import Group, Kafka, Topic
from stream.commands.doctor.kafka_topics import RIGHTS
from stream.config.wording import counted

OLDEST: Final = (2, 4)  # its brokers apply defaults to new topics
TOPIC_IDS: Final = (2, 8)
LONG_LAG: Final = 50_000  # records: ten seconds of what a worker answers in a backlog
AHEAD_MS: Final = 60_000  # a record's time beyond this machine's


def check_brokers(facts: Kafka, bootstrap: str) -> list[Finding]:
    version = ".".join(map(str, facts.version)) or "unknown"
    who = f", as user {facts.user}" if facts.user else ""
    said = f"{counted(facts.brokers, 'broker')} at {bootstrap}{who}"
    found = [ok("kafka", said)]
    if facts.version and facts.version < OLDEST:
        found.append(problem("kafka version", f"{version} or so", "pathcast is tested with Apache Kafka 4: update"))
    elif facts.version and facts.version < TOPIC_IDS:
        found.append(
            warning(
                "kafka version",
                f"{version}: topics have no ids, so one that is created anew is not recognised",
                "update to 2.8 or later",
            )
        )
    else:
        found.append(ok("kafka version", f"{version} or later" if facts.version else "unknown"))
    return found


def check_groups(facts: Kafka, reads: dict[str, str], workers: str) -> list[Finding]:
    """Returns findings of the groups; `reads` has each one's topic, `workers` is the group that a worker needs."""
    found: list[Finding] = []
    for name, topic in reads.items():
        group = facts.groups.get(name, Group())
        if name != workers and group.state in ("absent", "DEAD", "hidden"):
            continue  # a part that does not run here
        found += list(_of_one(name, group, facts.topics.get(topic), facts, needed=name == workers)) or [
            ok(f"group {name}", _summary(group, facts.topics.get(topic)))
        ]
    return found


def _of_one(name: str, group: Group, topic: Topic | None, facts: Kafka, *, needed: bool) -> Iterator[Finding]:
    check = f"group {name}"
    if group.state == "hidden":
        yield problem(check, "we may not read it", f"give user {facts.user or '(none)'} Read on Group {name}: {RIGHTS}")
        return
    if needed and group.may is not None and "READ" not in group.may:
        yield problem(
            check,
            f"a worker may not join it as user {facts.user or '(none)'}",
            f"give the user Read on Group {name}: {RIGHTS}",
        )
    if topic is None or group.committed is None:
        return
    lost = sum(max(begin - group.committed.get(at, begin), 0) for at, begin in topic.begins.items())
    if lost:
        yield problem(
            check,
            f"retention has deleted {counted(lost, 'record')} that it had not read",
            "give the topic a longer retention.ms; what is deleted is answered by nobody",
        )
    lag = _lag(group, topic)
    if lag and not group.members and group.state not in ("absent", "DEAD"):
        yield warning(check, f"no members, and {_waiting(lag)}", "start what reads it: pathcast worker, say")
    elif lag >= LONG_LAG:
        yield warning(
            check, f"{counted(group.members, 'member')}, and {_waiting(lag)}", "look again: if it grows, add some"
        )
    if group.members > topic.partitions > 0:
        yield warning(
            check,
            f"{group.members} members, and {counted(topic.partitions, 'partition')}: some are idle",
            "end some, or begin anew with more partitions",
        )
    if "REBALANC" in group.state:
        yield warning(check, f"it is dividing partitions ({group.state.lower()})", "look again in half a minute")


def _lag(group: Group, topic: Topic) -> int:
    committed = group.committed or {}
    return sum(max(end - committed.get(at, topic.begins.get(at, 0)), 0) for at, end in topic.ends.items())


def _summary(group: Group, topic: Topic | None) -> str:
    if group.state in ("absent", "DEAD"):
        return "nobody has joined it yet"
    lag = "unknown" if topic is None or group.committed is None else counted(_lag(group, topic), "record")
    return f"{group.state.lower()}, {counted(group.members, 'member')}, lag {lag}"


def _waiting(lag: int) -> str:
    return f"{counted(lag, 'record')} {'waits' if lag == 1 else 'wait'}"


def check_transactions(facts: Kafka) -> list[Finding]:
    """Returns a finding for each transactional id that exactly_once needs."""
    found = []
    for name, state in facts.transactions.items():
        check = f"transactional id {name}"
        if state == "hidden":
            found.append(
                problem(
                    check,
                    f"user {facts.user or '(none)'} may not use it",
                    f"give the user Write on TransactionalId {name.partition('|')[0]}|* (prefixed): {RIGHTS}",
                )
            )
        else:
            why = "it may be described; writing cannot be tried without" if state == "there" else "no broker would say"
            found.append(unknown(check, f"whether it may be written: {why} a transaction"))
    return found


def check_newest(newest_ms: int | None, now_ms: float, pings: str) -> list[Finding]:
    """Returns whether the newest record's time lies ahead of this machine's clock."""
    check = "clock, by pings"
    if newest_ms is None:
        return []
    ahead_ms = newest_ms - now_ms
    if ahead_ms > AHEAD_MS:
        return [
            warning(
                check,
                f"a record of {pings} is {ahead_ms / 1000:,.0f} s ahead of this machine",
                "set the clocks of this machine, of the senders and of the brokers by NTP",
            )
        ]
    return [ok(check, f"the newest record of {pings} is {max(-ahead_ms, 0) / 1000:,.0f} s old")]
