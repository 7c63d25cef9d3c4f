"""The ranks of one run and their communication: sums, and checks that they agree.

    torchrun --standalone --nproc-per-node 2 --no-python pathcast train --data FILE... --out DIR

torchrun starts the same command once per rank and sets RANK, LOCAL_RANK and WORLD_SIZE. Without them there is one rank,
and this module costs nothing.

It is not DistributedDataParallel, which averages the ranks' gradients; that is right only for means over equally many
answers. Here each rank's loss is its part of a sum over the answers of all ranks (train.fit.loss), so the gradients add
up, and one sum over one flat tensor per step is enough; the weights are small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT_S = 300.0  # much longer than one rank needs between two sums; after that the other ranks stop


class PeerLost(RuntimeError):
    """Another rank died, or did not answer in time."""


@dataclass(frozen=True)
class Peers:
    """This rank among all."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Returns whether this rank is the one that writes and prints."""
        return self.rank == 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor (float32, on this rank's device) by its sum over all ranks, with the same bits on each.

        Raises PeerLost.
        """
        if self.world == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._sum(flat)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Returns each number's sum over all ranks. Raises PeerLost."""
        if self.world == 1:
            return list(numbers)
        flat = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self._sum(flat)
        return [float(number) for number in flat.cpu()]

    def from_leader(self, number: float) -> float:
        """Returns the leader's number, on every rank. Raises PeerLost."""
        return self.total([number if self.leads else 0.0])[0]

    def agree(self, fact: str) -> bool:
        """Returns whether all ranks have the same fact. Raises PeerLost."""
        # an integer that float64 holds exactly
        digest = int.from_bytes(blake2b(fact.encode(), digest_size=4).digest(), "big")
        mine, leaders = float(digest), self.from_leader(float(digest))
        return self.total([abs(mine - leaders)])[0] == 0.0

    def _sum(self, flat: Tensor) -> None:
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise PeerLost(
                f"rank {self.rank} of {self.world} lost another: it died, or hung for longer than the timeout; "
                f"the same command goes on from the last checkpoint ({str(error).splitlines()[0]})"
            ) from error


class RankPlace(NamedTuple):
    """The place of a process among all ranks."""

    rank: int
    local: int  # rank among those on this machine
    world: int


def rank_place() -> RankPlace:
    """Returns the place that torchrun gave to this process; 0, 0, 1 without it."""
    number = os.environ.get
    return RankPlace(int(number("RANK", "0")), int(number("LOCAL_RANK", "0")), int(number("WORLD_SIZE", "1")))


@contextmanager
def join(device: torch.device, timeout_s: float = TIMEOUT_S) -> Iterator[Peers]:
    """Connects to the other ranks, and disconnects together with them at the end. Raises PeerLost where they do not
    come.
    """
    rank, _, world = rank_place()
    if world == 1:
        yield Peers(device=device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    except RuntimeError as error:
        raise PeerLost(f"rank {rank} did not meet the other {world - 1} in {timeout_s:g} s: {error}") from error
    try:
        yield Peers(rank, world, device)
        # All disconnect together: a connection that one side closes while the other still uses it has aborted a
        # process.
        with suppress(RuntimeError):  # a rank that is gone by now has finished its work
            dist.barrier()
    finally:
        dist.destroy_process_group()
