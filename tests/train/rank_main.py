"""One rank of a tiny run, started by test_fit_ranks: leaves its losses and a digest of its weights in a file.

rank_main.py DIR [--die-at STEP] [--hang-at STEP] [--timeout SECONDS]    both befall rank 1 alone
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import torch
from fit_worlds import TINY, circling, options

from train.fit.distributed import join, rank_place
from train.fit.trainer import Tick, fit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed-of-rank-1", type=int, default=0)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--hang-at", type=int)
    parser.add_argument("--timeout", type=float, default=60.0)
    args = parser.parse_args()
    rank, _, world = rank_place()

    def watch(tick: Tick) -> None:
        if rank == 1 and tick.step == args.die_at:
            os._exit(9)
        if rank == 1 and tick.step == args.hang_at:
            time.sleep(600)

    # They meet when both have begun: on a slow machine one would otherwise wait for the other's imports, and give up.
    (args.out / f"begun-{rank}").touch()
    while not all((args.out / f"begun-{one}").exists() for one in range(world)):
        time.sleep(0.01)
    seed = args.seed_of_rank_1 if rank == 1 else 0
    run = options(args.out, steps=args.steps, bfloat16=False, seed=seed)
    with join(torch.device("cpu"), args.timeout) as peers:
        report = fit(circling(), circling(3, seed=1), TINY, run, watch=watch, peers=peers)
    digest = hashlib.sha256(b"".join(p.numpy().tobytes() for p in report.network.parameters())).hexdigest()
    found = {"losses": report.losses, "validations": report.validations, "weights": digest}
    (args.out / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
