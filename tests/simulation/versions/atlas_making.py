"""Makes versions of the atlas in a world, by the product's own code: the member that counts days makes them every few
seconds, writes their files into a folder of the world, and announces them to the workers, which ask them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from hurried import HurriedAnnouncer
from networks import make_predictor
from versions_oracle import judge_version

from stream.atlas.counting import making, member
from stream.wire import VersionRecord

if TYPE_CHECKING:
    from stage import Stage

EARLY_S: Final = (1.5, 3.0)  # from the first pings to those before
AGAIN_S: Final = 2.0
SETTLE_S: Final = 1.0


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Stands for `write_whole`. A host dies between two steps and never within one, so that nobody sees a half; and the
    file is as old as the world's clock says."""
    with path.open("wb") as file:
        file.writelines(pieces)
    os.utime(path, (time.time(), time.time()))


def watched_announcer(stage: Stage) -> type[HurriedAnnouncer]:
    """Returns an announcer that has each version judged before it is announced."""

    class Watched(HurriedAnnouncer):
        async def announce(
            self, version: str, *, includes: Mapping[int, int], contains: Mapping[str, Any]
        ) -> VersionRecord:
            for what in judge_version(stage, version, includes):
                stage.note_broken(what)
            stage.world.note(f"makes {version} of {dict(includes)}")
            return await super().announce(version, includes=includes, contains=contains)

    return Watched


@contextmanager
def in_place(stage: Stage) -> Iterator[None]:
    """Lets makers make versions within seconds, and beside a network that takes no time."""
    own = SimpleNamespace(load=lambda weights: make_predictor())
    with ExitStack() as stack:
        for module, name, value in (
            (making, "Announcer", watched_announcer(stage)),
            (making, "Predictor", own),
            (making, "write_whole", _write),
            (member, "EARLY_S", EARLY_S),
            (member, "AGAIN_S", AGAIN_S),
            (member, "SETTLE_S", SETTLE_S),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield
