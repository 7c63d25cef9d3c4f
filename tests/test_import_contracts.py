"""Each import contract of pyproject.toml holds, and breaks on a line that violates it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")

# contract id -> (file, a line that the contract forbids there)
VIOLATIONS = {
    "model-stands-alone": [
        ("model/serving/state_pool.py", "import redis"),
        ("model/kinematics/features.py", "import stream.wire"),
        ("model/network/network.py", "import train.fit.trainer"),
    ],
    "model-stands-on-physics": [
        ("model/kinematics/motion.py", "import model.network.heads"),
        ("model/network/network.py", "import model.serving.layers"),
        ("model/kernels/linear.py", "import model.network.transformer"),
        ("model/config.py", "import model.kinematics.geo"),
        ("model/atlas/ways.py", "import model.network.heads"),
        ("model/arrivals/times.py", "import model.serving.answers"),
        ("model/parameters/shapes.py", "import model.network.heads"),
    ],
    "serving-needs-no-torch": [
        ("model/serving/gaps.py", "import torch"),
        ("model/serving/state_pool.py", "import torch"),
        ("model/api.py", "import torch"),
        ("model/kinematics/motion.py", "import torch"),
        ("model/parameters/reading.py", "import torch"),
        ("model/atlas/ways.py", "import torch"),
        ("model/arrivals/times.py", "import torch"),
        ("model/serving/gaps.py", "import model.network.heads"),
        ("stream/engine/engine.py", "import torch"),
        ("stream/registry/registry.py", "import torch"),
    ],
    "serving-needs-no-arrow": [
        ("model/api.py", "import pyarrow"),
        ("stream/engine/engine.py", "import pyarrow"),
        ("stream/worker/app.py", "import stream.adapters.columns"),
        ("stream/worker/cli.py", "import stream.adapters.options"),
        ("stream/worker/app.py", "import stream.services.archive.changes"),
        ("stream/registry/registry.py", "import pyarrow"),
        ("stream/api/service.py", "import pyarrow"),
        ("stream/api/map/service.py", "import pyarrow"),
    ],
    "client-is-light": [
        ("stream/client/reader.py", "import numba"),
        ("stream/client/frames.py", "import model.api"),
        ("stream/client/sinks/running.py", "import stream.kafka.patches"),
        ("stream/client/exporting/collecting.py", "import stream.tracks.clean"),
    ],
    "services-stand-apart": [
        ("stream/services/latest/unit.py", "import stream.services.scores.scoring.clock"),
        ("stream/services/archive/landing.py", "import stream.services.avro.unit"),
    ],
    "commands-stand-apart": [
        ("stream/commands/doctor/cli.py", "import stream.commands.files.plan"),
        ("stream/commands/models/showing.py", "import stream.commands.dlq.dead_letters"),
    ],
    "stream-flows-one-way": [
        ("stream/wire/messages.py", "import stream.tracks.clean"),
        ("stream/config/security.py", "import stream.kafka.admin"),
        ("stream/tracks/track.py", "import stream.engine.engine"),
        ("stream/tracks/clean.py", "import stream.kafka.records.columns"),
        ("stream/store/base.py", "import stream.delivery.delivery"),
        ("stream/registry/golden.py", "import stream.tracks.fix"),
        ("stream/storage/folder.py", "import stream.registry.store"),
        ("stream/commands/models/showing.py", "import stream.verify.judging.judge"),
        ("stream/engine/engine.py", "import stream.worker.faust_driver"),
        ("stream/verify/judging/judge.py", "import stream.worker.monitor.health"),
        ("stream/services/scores/member.py", "import stream.delivery.inbox"),
        ("stream/services/scores/pages.py", "import stream.worker.monitor.health"),
        ("stream/ingest/publishing/sink.py", "import stream.worker.monitor.health"),
        ("stream/ingest/publishing/sink.py", "import stream.services.archive.landing"),
        ("stream/services/member.py", "import stream.delivery.ownership.takeover"),
        ("stream/members/running.py", "import stream.worker.monitor.health"),
        ("stream/members/group_member.py", "import stream.services.plan"),
        ("stream/members/storing_member.py", "import stream.versions.ledger"),
        ("stream/contracts/files.py", "import stream.kafka.admin"),
        ("stream/delivery/delivery.py", "import stream.verify.judging.judge"),
        ("stream/services/archive/landing.py", "import stream.atlas.building"),
        ("stream/client/reader.py", "import stream.services.scores.reading"),
        ("stream/services/scores/reading.py", "import stream.client.reader"),
        ("stream/client/sinks/running.py", "import stream.commands.tail_cli"),
        ("stream/adapters/archived/reading.py", "import stream.services.archive.changes"),
        ("stream/worker/app.py", "import stream.bench.harness.drain"),
        ("stream/worker/process_pool.py", "import stream.up.run"),
        ("stream/processes/keeper.py", "import stream.worker.process_pool"),
        ("stream/api/handlers.py", "import stream.commands.topics"),
        ("stream/http/probes.py", "import stream.engine.counts"),
        ("stream/delivery/delivery.py", "import stream.api.live.newest"),
        ("stream/api/handlers.py", "import stream.up.run"),
        ("stream/api/map/service.py", "import stream.demo.run"),
        ("stream/up/servers.py", "import stream.demo.run"),
    ],
    "stream-reaches-model-through-api": [
        ("stream/engine/engine.py", "import model.serving.state_pool"),
        ("stream/bench/workers/worker.py", "import model.serving.state_pool"),
        ("stream/commands/models/showing.py", "import model.parameters.reading"),
        ("stream/services/arrivals/unit.py", "import model.atlas.atlas"),
        ("stream/tracks/track.py", "import train.data.corpus"),
    ],
    "faust-stays-in-worker": [
        ("stream/delivery/delivery.py", "import faust"),
        ("stream/commands/feed.py", "import mode"),
        ("stream/bench/workers/worker.py", "import faust"),
    ],
    "train-flows-one-way": [
        ("train/data/corpus.py", "import train.batches.packing"),
        ("train/batches/packing.py", "import train.evaluation.forecasts"),
        ("train/evaluation/forecasts.py", "import train.calibration.calibrate"),
        ("train/calibration/calibrate.py", "import train.fit.trainer"),
        ("train/fit/trainer.py", "import train.experiments.cli"),
        ("train/fit/trainer.py", "import train.refresh.run"),
        ("train/experiments/cli.py", "import train.refresh.run"),
    ],
    "train-imports-few-rooms-of-stream": [
        ("train/fit/trainer.py", "import stream.commands.models.showing"),
        ("train/data/corpus.py", "import stream.tracks.clean"),
        ("train/fit/cli.py", "import stream.kafka.admin"),
        ("train/data/topic.py", "import stream.engine.engine"),
        ("train/data/topic.py", "import stream.versions.announcing"),
        ("train/refresh/run.py", "import stream.versions.deciding"),
        ("train/refresh/run.py", "import stream.http.rounds"),
        ("train/refresh/decision.py", "import stream.kafka.admin"),
        ("train/refresh/live/service.py", "import stream.commands.models.guarding"),
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
