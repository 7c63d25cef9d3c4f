"""Refreshes weights in a world: `train.refresh.live`, unchanged, with its rounds, the registry and what it announces.

Nothing is trained: a stand-in puts other numbers in the place of a challenger, and says by chance whether these are
better. It must be imported by whoever needs it, as what it puts in the place of training is in no other process.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import safetensors.numpy
import turns
from hurried import HurriedAnnouncer
from networks import NETWORKS, TINY, list_versions, make_predictor

from model.parameters.reading import WEIGHTS_FILE
from model.parameters.untrained import untrained
from model.parameters.writing import save
from stream.registry import NotFound, Registry
from stream.wire import Ping, dumps

if TYPE_CHECKING:
    from stage import Stage

PROMOTED_SHARE: Final = 0.7
EVERY_S: Final = 2.0
RETRY_S: Final = 1.0
LEAD_S: Final = 0.3
CARD: Final = "# Weights of a world\n"
ENTITIES: Final = 2
PINGS: Final = 45
BEGIN_MS: Final = 1_764_000_000_000


@dataclass(frozen=True)
class Options:
    """Stands for `RefreshOptions`."""

    out: Path = Path()
    champion: str = ""
    cache: Path | None = None
    seed: int = 0
    places: int = 0


class Watch:
    """Stands for `RefreshWatch`: nobody looks on."""

    def __init__(self, *watched: Callable[..., None]) -> None:
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        self.say, self.reading, self.tick, self.progress = watched or (nothing,) * 4


class Interrupted(Exception):
    """Stands for what training raises that was told to stop."""


def _stand_in() -> None:
    """Puts stand-ins in the place of the modules that train, and of the library that they need."""
    training, run = ModuleType("train.fit.trainer"), ModuleType("train.refresh.run")
    training.Interrupted = Interrupted  # type: ignore[attr-defined]
    run.RefreshOptions, run.RefreshWatch = Options, Watch  # type: ignore[attr-defined]
    run.refresh = _refresh  # type: ignore[attr-defined]
    sys.modules["train.fit.trainer"], sys.modules["train.refresh.run"] = training, run


def _refresh(sources: Sequence[Any], options: Options, command: Callable[[int], str], watch: Watch) -> None:
    """Stands for a refresh on files. The same round makes the same challenger again."""
    from train.refresh.statement import Statement, write_statement

    chance = random.Random(f"{options.out.parent.name} {Path(options.champion).name}")
    version = chance.choice(list_versions())
    is_better = random.Random(f"{options.seed} {version}").random() < PROMOTED_SHARE  # whoever trains it, and when
    work = options.out.with_name(f".{options.out.name}.unfinished")
    place = work if is_better else work / "refused"
    save_weights(version, place)
    write_statement(Statement(version, "", command(1), 0, 1, "world", ()), place)
    found = {
        "promote": is_better, "sentence": f"{'Promoted' if is_better else 'Refused'}: the world says so.",
        "reasons": ["the world says so"], "challenger": {"version": version}, "judged": [], "golden": [], "hours": [],
    }  # fmt: skip
    (work / "decision.json").write_text(json.dumps(found))
    work.rename(options.out)
    verdicts.setdefault(version, set()).add(is_better)


verdicts: dict[str, set[bool]] = {}  # by version, what was found of it: a world's own, and empty between two


def save_weights(version: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seed = 0 if version == make_predictor().version else 1 + list_versions().index(version)
    assert seed <= NETWORKS
    weights = untrained(TINY, seed)
    save(weights, folder, CARD)
    # Again, as some of it was rounded: workers of a world make the networks of their seeds, and read no file.
    (folder / WEIGHTS_FILE).write_bytes(safetensors.numpy.save(dict(weights.tensors)))


@lru_cache(maxsize=1)
def _pings() -> list[tuple[bytes, int]]:
    made = []
    for at in range(PINGS):
        for entity in range(ENTITIES):
            ping = Ping(entity_id=f"bus{entity}", ts=BEGIN_MS + at * 10_000, lat=30.0 + at * 4e-4, lon=-97.0 - entity)
            made.append((dumps(ping), ping.ts))
    return made


def _write_pings(where: Any, path: Path, since_ms: int, **_: Any) -> int:
    """Stands for what reads the topic: the challenger does not depend on it."""
    from train.data.topic import PingWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with PingWriter(path) as writer:
        writer.add_records(_pings())
    return writer.pings


class SimulatedRefresher:
    """One process. It makes a round after the other in its directory until it is told to stop."""

    def __init__(self, stage: Stage, directory: Path, percent: float | None, former: list[turns.Turns]) -> None:
        """Takes `former`, the threads of the processes before it, which have let go of their directory once it is
        this one's turn."""
        self._stage, self._directory, self._percent = stage, directory, percent
        self._turns, self._former = turns.Turns(), former
        self.stopping = turns.Stop()

    async def run(self) -> None:
        for one in self._former:
            one.release()
        self._former[:] = [self._turns]
        while not self.stopping.is_set():
            is_last = self._stage.is_healed
            await self._turns.run(self._make_round)
            if is_last:
                self._stage.versions.at_rest.add(self._directory)
                await self._stage.world.loop.create_future()  # the next round is a day away
            await asyncio.sleep(EVERY_S)

    def _make_round(self) -> None:
        from train.refresh.live import service
        from train.refresh.live.champion import LiveRefresh

        settings, registry = self._stage.settings, self._stage.versions.registry_folder
        live = LiveRefresh(
            Registry.open(str(registry)),
            settings.bootstrap,
            self._directory,
            Options(champion=str(registry.with_name("own")), seed=self._stage.plan.seed),
            settings.topics,
            percent=self._percent,
            lead_s=LEAD_S,
        )
        patience = service.Patience(self.stopping, waits=True, retry_s=RETRY_S)
        try:
            ended = service.run_once(live, patience, Watch())
        except (Interrupted, NotFound, OSError, RuntimeError) as error:
            if isinstance(error, NotFound) and "models_junk" not in self._stage.plan.kinds:  # of a stranger
                self._stage.note_broken(f"refresh: a round ended with {error!r}")
            self._stage.world.note(f"round {error!r}")
        except Exception as error:
            self._stage.note_broken(f"refresh: a round ended with {error!r}")
        else:
            self._stage.world.note(f"round {ended.outcome} {ended.version}")


@contextmanager
def in_place(stage: Stage) -> Iterator[None]:
    """Lets refreshers run in the world's hosts."""
    verdicts.clear()
    if "train.refresh.run" not in sys.modules:
        _stand_in()
    from train.refresh.live import champion, pings

    save_weights(make_predictor().version, stage.versions.registry_folder.with_name("own"))
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(asyncio, "run", turns.run))
        stack.enter_context(mock.patch.object(pings, "write_pings", _write_pings))
        stack.enter_context(mock.patch.object(champion, "Announcer", HurriedAnnouncer))
        yield
