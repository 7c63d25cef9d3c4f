"""Each import contract of pyproject.toml holds, and breaks on a line that violates it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")

# contract id -> (file, a line that the contract forbids there)
VIOLATIONS = {
    "model-stands-alone": [
        ("model/cache.py", "import redis"),
        ("model/features.py", "import stream.wire"),
        ("model/network.py", "import train.fit"),
    ],
    "stream-reaches-model-through-api": [
        ("stream/engine.py", "import model.cache"),
        ("stream/bench/step.py", "import model.cache"),
        ("stream/track.py", "import train.data"),
    ],
    "train-imports-only-wire-of-stream": [
        ("train/data.py", "import stream.clean"),
        ("train/cli_train.py", "import stream.cli_options"),
        ("train/readers/topic.py", "import stream.clean"),
    ],
    "faust-stays-in-app-and-transport": [
        ("stream/delivery.py", "import faust"),
        ("stream/cli_feed.py", "import mode"),
        ("stream/bench/peers.py", "import faust"),
    ],
    "bytes-flow-one-way": [
        ("stream/track.py", "import stream.engine"),
        ("stream/store.py", "import stream.delivery"),
        ("stream/engine.py", "import stream.transport"),
        ("stream/wire.py", "import stream.clean"),
        ("stream/connect.py", "import stream.wire"),
    ],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages that may be spoilt."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in ("model", "stream", "train"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return copy


def lint(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache", *arguments], cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )


def test_all_contracts_hold(tree: Path) -> None:
    linted = lint(tree)
    assert linted.returncode == 0, linted.stdout
    assert f"Contracts: {len(VIOLATIONS)} kept, 0 broken" in linted.stdout


def test_every_contract_has_a_violation_here() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == set(VIOLATIONS)


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [(contract, file, line) for contract, lines in VIOLATIONS.items() for file, line in lines],
)
def test_a_contract_bites(tree: Path, contract: str, file: str, line: str) -> None:
    spoilt = tree / file
    clean = spoilt.read_text()
    spoilt.write_text(f"{clean}\n{line}\n")
    try:
        linted = lint(tree, "--contract", contract)
    finally:
        spoilt.write_text(clean)
    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert "Contracts: 0 kept, 1 broken" in linted.stdout
    importer = file.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> {line.removeprefix('import ')}" in linted.stdout, "broken for another reason"
