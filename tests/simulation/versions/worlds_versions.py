"""Versions in a world: where the files of atlases lie, which are announced, and what is put in the place of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import atlas_making
import networks
from former_versions import FormerVersions
from rooms import Room
from versions_oracle import judge_announcements

from stream.verify import weights

if TYPE_CHECKING:
    from plans import Plan
    from stage import Stage

WITH_FILES = ("atlases", "refresh")
WITH_WEIGHTS = ("versions", "refresh")


class WorldsVersions:
    """Versions of the weights and of the atlas, as far as a world has them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.room = Room() if plan.world in WITH_FILES else None
        self.at_rest: set[Path] = set()  # rounds of refreshers that have made one after all was healed
        self._former_turns: dict[int, list[Any]] = {}  # of each refresher, the threads of its processes

    @property
    def atlases(self) -> Path | None:
        """Returns where the workers look for atlases; None if they ask none."""
        return None if self.room is None or self._plan.world != "atlases" else self.room.atlases

    @property
    def registry(self) -> str | None:
        """Returns where the workers look for weights; None if they stay with their own."""
        if self._plan.world in WITH_WEIGHTS or (self.atlases is not None and "announce" in self._plan.kinds):
            return "announced"
        return None

    @property
    def registry_folder(self) -> Path:
        assert self.room is not None
        return self.room.registry

    @property
    def has_topic(self) -> bool:
        return self.atlases is not None or self.registry is not None

    def begin(self, stage: Stage) -> None:
        self._stage = stage
        self.former = FormerVersions(stage)

    def refresher(self, number: int, percent: float) -> Any:
        """Returns what makes a process that refreshes weights, for the place of this number."""
        from refresher import SimulatedRefresher

        assert self.room is not None
        former = self._former_turns.setdefault(number, [])
        return partial(SimulatedRefresher, self._stage, self.room.rounds / str(number), percent or None, former)

    def heal(self) -> None:
        """Ends what was done to versions."""
        if self.has_topic:
            self._stage.kafka.create_topic(self._stage.settings.topics.models, 1)
        networks.absent.clear()
        if self.room is not None:
            self.room.give_atlases()

    def open_ends(self) -> list[str]:
        """Returns what refreshers have not done yet, in words."""
        if len(self.at_rest) < len(self._plan.refreshers):
            return ["a refresher has not ended a round since all was healed"]
        return []

    def judge(self) -> list[str]:
        """Returns what is wrong with versions, when all is at rest."""
        found = judge_announcements(self._stage) if self.has_topic else []
        if self._plan.refreshers:
            from refresh_oracle import judge_decisions

            found += judge_decisions(self._stage)
        return found

    @contextmanager
    def in_place(self) -> Iterator[None]:
        with ExitStack() as stack:
            networks.absent.clear()
            stack.enter_context(mock.patch.object(weights.Loaded, "load", networks.load_known))
            if self.room is not None:
                stack.callback(self.room.remove)
            if self.atlases is not None:
                stack.enter_context(atlas_making.in_place(self._stage))
            if self._plan.refreshers:
                import refresher

                stack.enter_context(refresher.in_place(self._stage))
                stack.callback(self._release)
            yield

    def _release(self) -> None:
        for some in self._former_turns.values():
            for one in some:
                one.release()
