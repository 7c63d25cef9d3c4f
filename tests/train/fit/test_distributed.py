"""Two ranks, real processes over loopback: one run, the same weights on both, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fit_worlds import TINY, circling, options

from model.network.checkpoint import from_pretrained
from train.fit.distributed import Peers
from train.fit.run_state import CHECKPOINT_FILE
from train.fit.trainer import fit

pytestmark = pytest.mark.slow

MAIN = Path(__file__).parents[1] / "rank_main.py"
LIMIT_S = 240  # a bound for a busy machine; alone it takes some ten seconds


def environment(**more: str) -> dict[str, str]:
    paths = [str(MAIN.parent), str(MAIN.parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}


def torchrun(out: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(MAIN)]
    return subprocess.run(
        [*command, str(out), *args], env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def both(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def by_hand(out: Path, *args: str) -> list[subprocess.Popen[str]]:
    """Two ranks without torchrun, which would end the other one itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, str(MAIN), str(out), *args],
            env=environment(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    done = torchrun(out)
    assert done.returncode == 0, done.stderr
    return out


def test_two_ranks_do_what_one_does_with_two_micro_batches(straight: Path, tmp_path: Path) -> None:
    """Every step's loss and every validation; Adam divides by small numbers, so the last digits may wander."""
    alone = fit(circling(), circling(3, seed=1), TINY, options(tmp_path, steps=12, bfloat16=False, accumulate=2))
    for rank in both(straight):
        assert rank["losses"] == pytest.approx(alone.losses, rel=2e-4)
        for (step, found), (wanted_step, wanted) in zip(rank["validations"], alone.validations, strict=True):
            assert (step, found) == (wanted_step, pytest.approx(wanted, rel=2e-4))


def test_both_ranks_end_with_the_same_weights_to_the_bit(straight: Path) -> None:
    zero, one = both(straight)
    assert zero == one
    assert from_pretrained(straight).config == TINY


@pytest.mark.parametrize("fate", ["--die-at", "--hang-at"])
def test_nobody_waits_for_a_rank_that_is_gone(straight: Path, tmp_path: Path, fate: str) -> None:
    """Without torchrun to end it, the survivor says what happened and goes, long before the hung one would wake. The
    same command then goes on to the bit."""
    leader, other = by_hand(tmp_path, fate, "8", "--timeout", "15")
    try:
        _, errors = leader.communicate(timeout=LIMIT_S)
    finally:
        other.kill()
        other.communicate()
        leader.kill()
    assert leader.returncode == 1
    assert "PeerLost: rank 0 of 2 lost another" in errors
    assert (tmp_path / CHECKPOINT_FILE).exists()
    if fate == "--die-at":
        resumed = torchrun(tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        assert both(tmp_path) == both(straight)


def test_ranks_that_were_asked_for_different_runs_are_refused(tmp_path: Path) -> None:
    ended = torchrun(tmp_path, "--seed-of-rank-1", "3")
    assert ended.returncode != 0
    assert "the ranks differ in data, options or checkpoint" in ended.stderr


def test_alone_there_is_nobody_to_ask() -> None:
    alone = Peers()
    assert alone.leads
    assert alone.agree("anything")
    assert alone.total([1.0, 2.0]) == [1.0, 2.0]
