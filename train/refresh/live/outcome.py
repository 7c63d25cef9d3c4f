"""Publishes a challenger and lets it serve, or notes why it may not. Whatever is done here can be done again: a round
that was killed half-way announces nothing twice.

    noted       the registry has a decision about the challenger since the round began: nothing is left to do
    announced   the models topic has it, the registry does not say so: it is noted
    else        it is published, announced and noted; or it is refused, and only that is noted
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.files import write_whole
from model.parameters.reading import CARD_FILE
from stream.adapters.sources import parse
from stream.config import failpoints
from stream.registry import About, Data, Decision
from stream.registry.decisions import LONGEST_REASON, What
from stream.registry.golden import LENGTH, make_golden
from stream.versions.deciding import Decider, Why
from train.data.corpus import Corpus, load
from train.data.cutting import EVALUATION
from train.refresh import statement
from train.refresh.decision import ALL
from train.refresh.live.champion import LiveRefresh, statement_metrics
from train.refresh.live.rounds import Round, RoundEnd

BY: Final = "pathcast refresh"  # as registries have it since 0.2.0
REAL_WINDOWS: Final = 4  # of the newest tracks, beside the invented ones


async def decide_round(live: LiveRefresh, round: Round) -> RoundEnd:
    """Lets the challenger of a round serve, or notes why not. Returns how the round ended.

    Raises RegistryError, OSError, KafkaError, and as `Announcer.announce`.
    """
    found = round.decision()
    assert found is not None
    version, reason = round.challenger, _strip_verdict(found["sentence"])
    if version is None or version == round.started.champion:
        return RoundEnd("refuse", reason, version)
    decisions = live.registry.decisions()
    if (noted := find_decision(decisions, version, round.started.started_ms)) is not None:
        return RoundEnd(noted.what, noted.reason, version)
    if not found["promote"]:
        return _refuse(live, round, version, reason, found)
    async with live.decider() as decider:
        await decider.catch_up(except_version=version)
        decisions = live.registry.decisions()  # a rollback may have come since the round began
        if (role := _find_role(decider, version)) is not None:
            if role == "promote":  # the former canary may not have been ended
                for one in decider.canaries:
                    await decider.stop(one.version, Why(f"{version} serves", BY))
            return _note(live, build_decision(role, version, reason, round, found))
        against = find_bar(decisions, version) or _find_other_serving(decider, round)
        if against is not None:
            return _refuse(live, round, version, against, found)
        publish_challenger(live, round, found)
        failpoints.reach("after_challenger")
        why = Why(reason, BY, summarise_numbers(found))
        made = (
            await decider.promote(version, why)
            if live.percent is None
            else await decider.canary(version, live.percent, why)
        )
    return RoundEnd(made.what, made.reason, version)


def publish_challenger(live: LiveRefresh, round: Round, found: Mapping[str, Any]) -> None:
    """Publishes the challenger with what is known of it. Raises RegistryError, WeightsError, OSError."""
    corpus = load([parse(round.pings)], round.cache, cut=EVALUATION)
    said = statement.read_statement(round.result)
    _remove_paths(round)
    times = corpus.ts_ms
    about = About(
        parent=round.started.champion,
        command="" if said is None else said.command,
        seed=None if said is None else said.seed,
        data=Data(
            fingerprint=corpus.fingerprint,
            sources=corpus.files,
            from_ts=max(0, int(times.min())),
            to_ts=int(times.max()),
            pings=len(times),
            entities=len(corpus.names),
        ),
        metrics={"sentence": found["sentence"], **_pick_numbers(found), **statement_metrics(said)},
    )
    live.registry.publish_weights(round.result, about, make_golden(round.result, newest_windows(corpus)))


def newest_windows(corpus: Corpus, most: int = REAL_WINDOWS) -> list[NDArray[Any]]:
    """Returns the last LENGTH fixes of the newest tracks that have as many, of one entity each."""
    ends = corpus.tracks[:, 1]
    found: dict[int, NDArray[Any]] = {}
    for at in np.argsort(-corpus.ts_ms[ends - 1], kind="stable"):
        first, end = corpus.tracks[at]
        if end - first >= LENGTH and int(corpus.entity[at]) not in found:
            found[int(corpus.entity[at])] = corpus.fixes(slice(int(end) - LENGTH, int(end)))
        if len(found) == most:
            break
    return list(found.values())


def find_decision(decisions: Iterable[Decision], version: str, from_ms: int) -> Decision | None:
    """Returns the first decision about this version since then."""
    return next((one for one in decisions if one.version == version and one.ts >= from_ms), None)


def find_bar(decisions: Iterable[Decision], version: str) -> str | None:
    """Returns why a version may not serve again by itself: it was rolled back, or stopped as a canary."""
    for one in decisions:
        if one.what == "rollback" and one.instead_of == version:
            return f"{version} was rolled back before: {one.reason}"
        if one.what == "stop" and one.version == version:
            return f"{version} was stopped before: {one.reason}"
    return None


def build_decision(what: What, version: str, reason: str, round: Round, found: Mapping[str, Any]) -> Decision:
    """Returns the record of a decision, for the registry."""
    return Decision(
        what=what,
        kind="weights",
        version=version,
        instead_of=round.started.champion,
        ts=time.time_ns() // 1_000_000,
        by=BY,
        numbers=summarise_numbers(found),
        reason=reason[:LONGEST_REASON],
    )


def summarise_numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a decision without strata, which the manifest or the round's folder has: decisions are
    kept for ever, and some 10 KB each."""
    few = {name: [one for one in found.get(name, ()) if one["stratum"] == ALL] for name in ("judged", "golden")}
    return {**few, "reasons": found["reasons"][:20], "hours": found.get("hours", [])}


def _pick_numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found.get(name, []) for name in ("judged", "golden", "hours")}


def _strip_verdict(sentence: str) -> str:
    return sentence.partition(": ")[2] or sentence


def _find_role(decider: Decider, version: str) -> What | None:
    if decider.serving is not None and decider.serving.version == version:
        return "promote"
    return "canary" if any(one.version == version for one in decider.canaries) else None


def _find_other_serving(decider: Decider, round: Round) -> str | None:
    before, now = round.started.champion, decider.serving
    if now is None or now.version == before:
        return None
    return f"{now.version} serves meanwhile, and it was compared with {before}"


def _refuse(live: LiveRefresh, round: Round, version: str, reason: str, found: Mapping[str, Any]) -> RoundEnd:
    return _note(live, build_decision("refuse", version, reason, round, found))


def _note(live: LiveRefresh, made: Decision) -> RoundEnd:
    live.registry.decide(made)
    return RoundEnd(made.what, made.reason, made.version)


def _remove_paths(round: Round) -> None:
    """Names what training began with by its version: the path of the round's folder is nobody else's concern."""
    card: Path = round.result / CARD_FILE
    text = card.read_text(encoding="utf-8")
    named = text.replace(str(round.champion), f"weights {round.started.champion}")
    if named != text:
        write_whole(card, [named.encode()])
