"""Lets the pings of a partition wait while it is not certain which versions they ask, of atlas and weights.

A partition that waits is closed (`Owned.undecided`), and the others go on. It opens at the next news: a version was
confirmed, withdrawn or loaded, the models topic can be read again, or the time is up for which anybody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from stream.delivery.partitions import Owned, Piece
from stream.engine.assignment import NOTHING, AtlasChoice, VersionChoice, WeightsChoice


class Chosen(Protocol):
    """What pings ask. `stream.versions.serving.Chosen` is one."""

    @property
    def atlas(self) -> AtlasChoice | None: ...

    @property
    def weights(self) -> WeightsChoice | None: ...

    @property
    def waiting(self) -> set[int]:
        """The numbers of the partitions that must wait."""


class Versions(Protocol):
    """Knows the versions of the atlas and of the weights. `stream.versions.serving.Versions` is one."""

    def listen(self, news: Callable[[], None]) -> None:
        """Calls `news` whenever partitions that wait should be asked for again."""

    async def choose(self, spans: Mapping[int, tuple[int, int]]) -> Chosen:
        """Returns which versions the pings of these partitions ask, and the partitions that must wait.

        `spans` has the first and the last offset of the pings, by the number of their partition. It raises nothing:
        what cannot be known is waited for, or said to be late.
        """

    @property
    def refused(self) -> Mapping[str, str]:
        """Returns the versions that are due and cannot be loaded, and why."""

    @property
    def announcements_refused(self) -> int:
        """Returns how many records of the models topic were refused."""

    @property
    def in_use(self) -> Mapping[int, str]:
        """Returns the version of the atlas that answered last, by the number of the partition; empty for none."""


class Undecided(Exception):
    """Nothing of these partitions' records was folded: they wait for news of a version."""

    def __init__(self, owners: Sequence[Owned]) -> None:
        super().__init__(f"{', '.join(str(owned.partition) for owned in owners)} wait for a version")
        self.owners = owners


class Holds:
    """Closes and opens partitions for versions. Without `versions`, no ping asks any, and none waits."""

    def __init__(self, versions: Versions | None, tell: Callable[[], None]) -> None:
        """Takes `tell`, which is called when partitions are open again."""
        self._versions = versions
        self._tell = tell
        self._held: list[Owned] = []
        if versions is not None:
            versions.listen(self._open)

    async def choice(self, pieces: Sequence[Piece]) -> VersionChoice:
        """Returns which versions these pieces ask. Raises Undecided."""
        if self._versions is None:
            return NOTHING
        spans: dict[int, tuple[int, int]] = {}
        for piece in pieces:
            records = piece.records.since(piece.owned.taken)  # what came again was answered
            if records:
                number = piece.owned.partition[1]
                first, last = spans.get(number, (records.first_offset, 0))
                spans[number] = min(first, records.first_offset), max(last, records.next_offset - 1)
        chosen = await self._versions.choose(spans)
        if not chosen.waiting:
            return VersionChoice(chosen.atlas, chosen.weights)
        owners = [owned for owned in {piece.owned: None for piece in pieces} if owned.partition[1] in chosen.waiting]
        for owned in owners:
            owned.undecided = True
        self._held += owners
        raise Undecided(owners)

    def _open(self) -> None:
        for owned in self._held:
            owned.undecided = False
        if self._held:
            self._held.clear()
            self._tell()
