"""The networks that this process's entities are followed by: nearly always one, and two while weights are changed.

Each entity has one slot, and its state is in the pool of one network. Whose it is says a column, by slot. The pools of
all networks number their slots alike, so that tracks and tables of the engine need not know of it. An entity's state
never goes from one network to another: `move` rebuilds it from the entity's window.

With one network each call is passed on as it is. Else its rows are grouped by network, and the results are put back in
their order, so that no bit of a row depends on who else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.api import FINGERPRINT_AT, Fill, Forecasts, Gap, Guide, Moment, Predictor
from stream.wire import ModelRef

Slots = NDArray[np.int64]
Windows = Sequence[NDArray[Any]]
T = TypeVar("T")
NOBODY: Final = -1


class Predictors:
    """A `Predictor` of several networks, as far as the engine uses one. One thread at a time may use it."""

    def __init__(self, base: Predictor) -> None:
        self._networks: list[Predictor | None] = [base]  # None: it was let go, and the place is free
        self._newest = 0
        self.history = base.history
        self.which = np.full(base.capacity, NOBODY, np.int8)  # by slot: whose its state is
        self._free = np.arange(base.capacity - 1, -1, -1)  # a stack: the next slots are its last ones
        self.capacity = base.capacity

    # -- networks ---------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> Predictor:
        """The network that was added last."""
        found = self._networks[self._newest]
        assert found is not None, "the newest is never let go"
        return found

    @property
    def refs(self) -> list[ModelRef]:
        """Returns the name and version of each network, by its place."""
        return [ModelRef("", "") if one is None else ModelRef(one.name, one.version) for one in self._networks]

    def place(self, network: Predictor) -> int:
        """Returns the place of a network, which is added if it is new. Raises ValueError for one of another size."""
        for at, one in enumerate(self._networks):
            if one is network:
                return at
        if (reason := Size.of(self.newest).misfit(Size.of(network))) is not None:
            raise ValueError(reason)
        at = next((at for at, one in enumerate(self._networks) if one is None), len(self._networks))
        self._networks[at : at + 1] = [network]
        self._newest = at
        return at

    def let_go(self, needed: Sequence[Predictor]) -> NDArray[np.bool_] | None:
        """Lets go of the networks that are not needed and have no states; the newest one stays.

        Returns which slots hold states of those that are not needed and remain for these alone, or None for no slot.
        """
        held: NDArray[np.bool_] | None = None
        for at, one in enumerate(self._networks):
            if one is None or at == self._newest or any(one is other for other in needed):
                continue
            its = self.which == at
            if its.any():
                held = its if held is None else held | its
            else:
                self._networks[at] = None
        return held

    # -- slots ------------------------------------------------------------------------------------------------------

    def acquire(self, n: int) -> Slots:
        """Returns n empty slots of the newest network, lowest first."""
        while len(self._free) < n:
            fresh = np.arange(2 * self.capacity - 1, self.capacity - 1, -1)
            self._free = np.concatenate([fresh, self._free])
            self.which = np.concatenate([self.which, np.full(self.capacity, NOBODY, np.int8)])
            self.capacity *= 2
        slots = self._free[len(self._free) - n :][::-1].copy()
        self._free = self._free[: len(self._free) - n]
        self.newest.occupy(slots)
        self.which[slots] = self._newest
        return slots

    def release(self, slots: Slots) -> None:
        for network, rows in self._groups(slots):
            network.vacate(slots[rows])
        self.which[slots] = NOBODY
        self._free = np.concatenate([self._free, np.sort(slots)[::-1]])

    def move(self, slots: Slots, places: NDArray[np.int64], windows: Windows) -> None:
        """Gives the states of these slots to the networks at these places: each is rebuilt from its window (FIX), or
        empty if that is.
        """
        self._hand_over(slots, places)
        rows = np.array([row for row, window in enumerate(windows) if len(window)], np.int64)
        if len(rows):
            self.rebuild(slots[rows], [windows[row] for row in rows.tolist()])

    def _hand_over(self, slots: Slots, places: NDArray[np.int64]) -> None:
        """Empties these slots, in the networks at these places."""
        for network, rows in self._groups(slots):
            network.vacate(slots[rows])
        self.which[slots] = places
        for network, rows in self._groups(slots):
            network.occupy(slots[rows])

    def _groups(self, slots: Slots) -> Iterator[tuple[Predictor, Any]]:
        """Yields each network that has states of these slots, and the rows of these; a slice if it is the only one."""
        which = self.which[slots]
        if len(which) == 0:
            yield self.newest, slice(None)
            return
        first = int(which[0])
        for at in [first] if (which == first).all() else np.unique(which).tolist():
            network = self._networks[at] if at != NOBODY else None
            if network is None:
                raise ValueError("a slot has no state")
            yield network, slice(None) if (which == at).all() else np.flatnonzero(which == at)

    # -- what a Predictor does ----------------------------------------------------------------------------------------

    def reset(self, slots: Slots) -> None:
        for network, rows in self._groups(slots):
            network.reset(slots[rows])

    def rebuild(self, slots: Slots, windows: Windows) -> None:
        for network, rows in self._groups(slots):
            network.rebuild(slots[rows], windows if isinstance(rows, slice) else [windows[row] for row in rows])

    def catch_up(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        for network, rows in self._groups(slots):
            network.catch_up(slots[rows], fixes[_fixes_of(rows, counts)], counts[rows])

    def answer(
        self,
        slots: Slots,
        fixes: NDArray[Any],
        counts: NDArray[np.int64],
        horizons_s: Sequence[float],
        guide: Guide | None = None,
    ) -> tuple[Forecasts, Moment]:
        parts = []
        for network, rows in self._groups(slots):
            at = _fixes_of(rows, counts)
            found = network.answer(slots[rows], fixes[at], counts[rows], horizons_s, _part(guide, at))
            if isinstance(rows, slice):
                return found
            parts.append((at, *found))
        order = _order([at for at, _, _ in parts])
        return _join([said for _, said, _ in parts], order), Moment.join([one for *_, one in parts]).at(order)

    def forecast(self, slots: Slots, horizons_s: Sequence[float], guide: Guide | None = None) -> Forecasts:
        parts = []
        for network, rows in self._groups(slots):
            said = network.forecast(slots[rows], horizons_s, _part(guide, rows))
            if isinstance(rows, slice):
                return said
            parts.append((rows, said))
        return _join([said for _, said in parts], _order([rows for rows, _ in parts]))

    def moment(self, slots: Slots) -> Moment:
        return self._each(slots, lambda network, some: network.moment(some), Moment.join, Moment.at)

    def last(self, slots: Slots) -> NDArray[Any]:
        return self._each(slots, lambda network, some: network.last(some), np.concatenate, lambda one, at: one[at])

    def fill_at(
        self, moment: Moment, places: NDArray[np.int64], asked: Sequence[Gap], guide: Guide | None = None
    ) -> list[Fill]:
        """Returns what the networks at these places [N] say of gaps [N] at moments [N] of their states."""
        found: list[Fill | None] = [None] * len(asked)
        for at in np.unique(places).tolist():
            network, rows = self._networks[at], np.flatnonzero(places == at)
            assert network is not None, "a batch lets go of no network"
            some = [asked[row] for row in rows.tolist()]
            for row, fill in zip(rows, network.fill_at(moment.at(rows), some, _part(guide, rows)), strict=True):
                found[row] = fill
        return [one for one in found if one is not None]

    def dumps(self, slots: Slots) -> list[bytes]:
        found: list[bytes] = [b""] * len(slots)
        for network, rows in self._groups(slots):
            states = network.dumps(slots[rows])
            if isinstance(rows, slice):
                return states
            for row, state in zip(rows.tolist(), states, strict=True):
                found[row] = state
        return found

    def loads(self, slots: Slots, blobs: Sequence[bytes]) -> None:
        """Puts states into slots, each into the network that wrote it. Raises StateCorrupt or StateMismatch; then some
        of the slots may be empty.
        """
        theirs = {one.fingerprint: at for at, one in enumerate(self._networks) if one is not None}
        places = np.array([theirs.get(blob[FINGERPRINT_AT], self._newest) for blob in blobs], np.int64)
        if len(elsewhere := np.flatnonzero(self.which[slots] != places)):
            self._hand_over(slots[elsewhere], places[elsewhere])
        for network, rows in self._groups(slots):
            network.loads(slots[rows], blobs if isinstance(rows, slice) else [blobs[row] for row in rows])

    def _each(
        self,
        slots: Slots,
        ask: Callable[[Predictor, Slots], T],
        join: Callable[[Sequence[T]], T],
        at: Callable[[T, NDArray[np.int64]], T],
    ) -> T:
        parts = []
        for network, rows in self._groups(slots):
            found = ask(network, slots[rows])
            if isinstance(rows, slice):
                return found
            parts.append((rows, found))
        return at(join([found for _, found in parts]), _order([rows for rows, _ in parts]))


class Size(NamedTuple):
    """What must be alike in all networks of a process: its tracks have one length, and its states one size."""

    hidden_numbers: int
    pings_in_a_window: int
    pings_of_history: int

    @classmethod
    def of(cls, network: Predictor) -> Size:
        return cls(network.config.d, network.config.window, network.history)

    def misfit(self, other: Size) -> str | None:
        """Returns why weights of another size cannot serve beside those of this one; None if they can."""
        for name, its, ours in zip(self._fields, other, self, strict=True):
            if its != ours:
                what = name.replace("_", " ")
                return f"weights with {its} {what} cannot serve beside those with {ours}: start the workers with them"
        return None


def _fixes_of(rows: Any, counts: NDArray[np.int64]) -> Any:
    """Returns where the fixes of these rows are, if row i has counts[i] of them, side by side."""
    if isinstance(rows, slice):
        return rows
    chosen = np.zeros(len(counts), np.bool_)
    chosen[rows] = True
    return np.flatnonzero(np.repeat(chosen, counts))


def _part(guide: Guide | None, at: Any) -> Guide | None:
    if guide is None or isinstance(at, slice):
        return guide
    approach = guide.approach.at(at) if len(guide.approach.came) else guide.approach
    return Guide(guide.atlases, guide.which[at], approach)


def _order(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Returns where each row is in the concatenation of these parts."""
    return np.argsort(np.concatenate(parts), kind="stable")


def _join(parts: Sequence[Forecasts], order: NDArray[np.int64]) -> Forecasts:
    return Forecasts._make(np.concatenate(columns)[order] for columns in zip(*parts, strict=True))
