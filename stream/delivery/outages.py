"""Records which uses of the store fail at this moment, by partition.

A use has failed until the same use of the same partition works again: a partition whose checkpoints are refused stays
failed while those of others are written, and a successful read does not hide failing writes.
"""

from __future__ import annotations

from typing import Literal

from stream.delivery.partitions import Owned

Use = Literal["checkpoint", "read", "takeover"]


class Outages:
    """Records which uses fail, for `Status.away`."""

    def __init__(self) -> None:
        self._failing: dict[tuple[Owned, Use], str] = {}

    @property
    def why(self) -> str:
        """The error text of the use that failed last. It is empty if no use fails."""
        return next(reversed(self._failing.values()), "")

    def note_failure(self, owned: Owned, use: Use, error: Exception) -> None:
        self._failing[owned, use] = str(error) or repr(error)

    def note_success(self, owned: Owned, use: Use) -> None:
        self._failing.pop((owned, use), None)

    def forget(self, owned: Owned) -> None:
        """Removes the partition, which is not ours any more or is taken over."""
        self._failing = {key: why for key, why in self._failing.items() if key[0] is not owned}
