"""`pathcast worker --warm` as an init container runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream.worker import warmup

WARM = [sys.executable, "-m", "pathcast", "worker", "--warm"]


def warm(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    how: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 600, "check": False}
    return subprocess.run([*WARM, *map(str, arguments)], env={**os.environ, **variables}, **how)


@pytest.mark.slow
def test_what_it_has_compiled_the_next_start_loads(weights: str, tmp_path: Path) -> None:
    first = warm("--weights", weights, "--json", NUMBA_CACHE_DIR=str(tmp_path))
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert found["weights"] == weights
    assert all(Path(folder).is_relative_to(tmp_path) for folder in found["folders"])
    assert "compiling kernels: " in first.stderr
    again = warm("--weights", weights, NUMBA_CACHE_DIR=str(tmp_path))
    assert again.stderr == "", "nothing is compiled again"
    assert again.stdout.startswith(f"kernels for weights {weights} (layers in {found['layers']}")


def test_where_nothing_can_be_kept_it_says_so(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "cache_folders", list)
    with pytest.raises(OSError, match="set NUMBA_CACHE_DIR"):
        warmup.warm_machine(weights, as_json=False)
