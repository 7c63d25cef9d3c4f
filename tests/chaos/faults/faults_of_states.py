"""What can lie in Redis under our keys: damaged, of another release or model. Written there between two workers.

state   what the model remembers: always rebuilt from the window, and the next forecast says so
record  the window itself: what is not readable there cannot be rebuilt but from the log
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final
from zlib import crc32

from chaos_feed import split
from chaos_rig import Rig
from faults import fault, fault_that_may

from model.serving import state_codec
from stream.engine.entities import stored_entity
from stream.tracks.fix import FIX_BYTES

Spoil = Callable[[bytes], bytes]
SHARE: Final = 3  # one record in so many is spoilt
FEW: Final = 12  # records whose loss the design accepts


@fault
def states_corrupt(rig: Rig) -> None:
    """A bit is flipped in every third stored state while no worker runs."""
    _between(rig, lambda state: _flipped(rig, state))


@fault
def states_of_an_old_version(rig: Rig) -> None:
    """Every third stored state says that it is of version 3, with a checksum that vouches for it."""
    _between(rig, lambda state: _vouched(state[:4] + struct.pack("<H", 3) + state[6:]))


@fault
def states_of_a_foreign_model(rig: Rig) -> None:
    """Every third stored state has the fingerprint of other weights, with a checksum that vouches for it."""
    _between(rig, lambda state: _vouched(state[:8] + b"stranger" + state[16:]))


@fault
def states_truncated(rig: Rig) -> None:
    """Every third stored state ends in its middle, as after a write that stopped half way."""
    _between(rig, lambda state: state[: len(state) // 2])


BECAUSE: Final = (
    "a record of an entity is its only copy of the window, so an entity whose record cannot be read starts anew, with "
    "forecasts that say warmup, and without the gap fill that such a window would have asked for; that nobody else is "
    "touched, and no forecast lost, is what is judged"
)


@fault_that_may("different", "states_different", "unexpected", "lost", because=BECAUSE)
def records_corrupt(rig: Rig) -> None:
    """A bit is flipped in the window of 12 stored records while no worker runs."""
    _some_records(rig, lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:])


@fault_that_may("different", "states_different", "unexpected", "lost", because=BECAUSE)
def records_of_an_old_version(rig: Rig) -> None:
    """12 stored records say that they are of version 1."""
    _some_records(rig, lambda raw: raw[:4] + struct.pack("<H", 1) + raw[6:])


def _between(rig: Rig, spoil: Spoil) -> None:
    """Spoil the state part of every SHAREth record between two workers."""

    def in_record(raw: bytes) -> bytes:
        (places,) = struct.unpack_from("<H", raw, 6)
        front = stored_entity.HEAD.itemsize + places * FIX_BYTES
        assert raw[front : front + 4] == state_codec.MAGIC
        return raw[:front] + spoil(raw[front:])

    _spoilt(rig, lambda names: names[::SHARE], in_record)


def _some_records(rig: Rig, spoil: Spoil) -> None:
    spoilt = _spoilt(rig, lambda names: names[:FEW], spoil)
    rig.suspects = frozenset(name.rpartition(b":e:")[2].decode() for name in spoilt)


def _spoilt(rig: Rig, choose: Callable[[list[bytes]], list[bytes]], spoil: Spoil) -> list[bytes]:
    first, second = split(rig.fleet())
    rig.start()
    rig.feed(first, over_s=6)
    rig.consumed()
    rig.stop_all()
    with rig.servers.redis.client() as redis:
        names = choose(sorted(redis.scan_iter(match="*:e:*", count=1000)))
        assert names, "the first worker left no states"
        for name in names:
            redis.set(name, spoil(redis.get(name)), keepttl=True)
    rig.say(f"{len(names)} spoilt")
    rig.start(2)
    rig.feed(second, over_s=6)
    rig.consumed()
    refused = sum(log.count("refused (") for log in rig.logs())
    rig.notes.append(f"{len(names)} spoilt, {refused} met and refused (seed {rig.seed})")
    assert refused > 0, "the second worker met nothing that was spoilt"
    return names


def _flipped(rig: Rig, state: bytes) -> bytes:
    at = rig.rng.randrange(len(state))
    return state[:at] + bytes([state[at] ^ 1 << rig.rng.randrange(8)]) + state[at + 1 :]


def _vouched(state: bytes) -> bytes:
    """With the checksum that belongs to it."""
    return state[:-4] + struct.pack("<I", crc32(state[:-4]))
