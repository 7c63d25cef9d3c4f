"""`.ci/release`: what it builds is whole, is the same when it is built again, and serves from an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from functools import partial
from importlib.metadata import distributions
from itertools import islice
from pathlib import Path

import bus_feed
import pytest
from release_build import Release, rehearsed
from release_rig import REPOSITORY
from worker_process import Worker, assert_all_live

from stream.wire import Topics, loads_forecast

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
PINGS = 200
CONTENTS = [sys.executable, REPOSITORY / ".ci" / "contents.py"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return rehearsed(tmp_path_factory.mktemp("release"))


def test_the_installed_command_says_its_version_and_finds_its_files(release: Release, tmp_path: Path) -> None:
    assert release.run(release.pathcast, "--version", folder=tmp_path).stdout == f"pathcast {VERSION}\n"
    assert release.run(release.python, "-m", "pathcast", "--version", folder=tmp_path).stdout == f"pathcast {VERSION}\n"
    helped = release.run(release.pathcast, "--help", folder=tmp_path).stdout
    assert all(name in helped for name in ("worker", "replay", "doctor", "models"))
    assert "flespi" in release.run(release.pathcast, "ingest", "presets", folder=tmp_path).stdout
    shown = json.loads(release.run(release.pathcast, "dev", "contracts", "show", "forecast", folder=tmp_path).stdout)
    assert "forecast_id" in shown["properties"]


def test_it_replays_a_file_and_serves_live_without_the_checkout(
    release: Release, apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    lines = [
        "entity_id,t,lat,lon",
        *(f"van,{1_490_096_205_000 + 30_000 * n},{30.29 + n / 1e3},-97.74" for n in range(12)),
    ]
    (tmp_path / "fleet.csv").write_text("\n".join(lines) + "\n")
    release.run(release.pathcast, "replay", "fleet.csv", "--out", "forecasts.ndjson", folder=tmp_path)
    replayed = [loads_forecast(line) for line in (tmp_path / "forecasts.ndjson").read_bytes().splitlines()]
    assert len(replayed) == 12

    topics = Topics.of(topic_prefix)
    where = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix}
    program = ["env", "-u", "PYTHONPATH", "-C", tmp_path, release.pathcast]
    with Worker(tmp_path / "log", program=program, **where, partitions=2) as worker:
        worker.wait_until_ready()
        bus_feed.send(apache_kafka, topics.pings, islice(bus_feed.fleet(PINGS, seed=8), PINGS))
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    said = [loads_forecast(one.value or b"") for one in bus_feed.read(apache_kafka, topics.forecasts)]
    assert len(said) > PINGS / 2
    assert {one.model.name for one in said} == {"small"}
    assert not release.seen.exists(), release.seen.read_text()


def test_who_reads_the_checkout_is_found_out(release: Release, tmp_path: Path) -> None:
    """The watch of the test above, and its notes."""
    for program in (
        f"open({str(REPOSITORY / 'README.md')!r})",
        f"import os; os.listdir({str(REPOSITORY / 'model')!r})",
    ):
        read = release.run(release.python, "-c", program, folder=tmp_path, check=False)
        assert "the checkout was read" in read.stderr
    path = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import train"
    assert "the checkout was read" in release.run(release.python, "-c", path, folder=tmp_path, check=False).stderr
    assert len(release.seen.read_text().splitlines()) >= 3
    release.seen.unlink()


def test_a_serving_install_brings_no_torch_and_is_listed_whole(release: Release) -> None:
    (packages,) = (release.env / "lib").glob("python3*/site-packages")
    installed = {(one.name.lower().replace("_", "-"), one.version) for one in distributions(path=[str(packages)])}
    listed = json.loads((release.out / f"pathcast-{VERSION}.cdx.json").read_text())
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "pathcast")
    found = {(one["name"].lower().replace("_", "-"), one["version"]) for one in listed["components"]}
    assert found | {("pathcast", VERSION)} == installed
    assert not {name for name, _ in found} & {"torch", "pyarrow", "pip", "pytest"}
    assert {"numba", "numpy", "aiokafka", "redis"} <= {name for name, _ in found}
    assert all(one["purl"].startswith("pkg:pypi/") for one in listed["components"])
    assert re.search(r"serving install: \d+ MB", release.said)


def test_the_sums_are_those_of_the_files(release: Release) -> None:
    assert len((release.out / "SHA256SUMS").read_text().splitlines()) == 3
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release.out, check=True, capture_output=True)


def spoilt(release: Release, folder: Path, *, without: str = "", more: str = "") -> str:
    """What the check of contents says of a wheel that lacks a file, or has one too many."""
    (wheel,) = release.out.glob("*.whl")
    for one in release.out.glob("*.tar.gz"):
        shutil.copy(one, folder)
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(folder / wheel.name, "w") as other:
        for name in whole.namelist():
            if name != without:
                other.writestr(name, whole.read(name))
        if more:
            other.writestr(more, "")
    told = subprocess.run([*CONTENTS, "check", folder, REPOSITORY], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    return told.stderr


@pytest.mark.parametrize("name", ["model/weights/small/model.safetensors", "stream/worker/app.py", "stream/py.typed"])
def test_a_wheel_that_lacks_a_file_is_refused(release: Release, tmp_path: Path, name: str) -> None:
    assert f"lacks {name}" in spoilt(release, tmp_path, without=name)


def test_a_wheel_with_tests_in_it_is_refused(release: Release, tmp_path: Path) -> None:
    assert "holds tests/conftest.py, which no package has" in spoilt(release, tmp_path, more="tests/conftest.py")


def test_the_licence_is_in_the_wheel(release: Release, tmp_path: Path) -> None:
    name = f"pathcast-{VERSION}.dist-info/licenses/LICENSE"
    assert f"lacks {name}" in spoilt(release, tmp_path, without=name)


@pytest.mark.parametrize(
    ("changelog", "rehearse", "said"),
    [
        ("## [Unreleased]\n\n## [9.9.9] - 2026-11-30\n", True, "newest section"),
        (f"## [{VERSION}]\n", False, "has no date"),
        (f"## [{VERSION}]\n", True, ""),
        (f"## [Unreleased]\n\n## [{VERSION}] - 2026-11-30\n\n## [0.0.1] - 2026-11-01\n", False, ""),
    ],
)
def test_a_version_is_released_once_the_changelog_has_it(
    tmp_path: Path, changelog: str, rehearse: bool, said: str
) -> None:
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    option = ["--rehearse"] if rehearse else []
    told = subprocess.run([*CONTENTS, "version", *option, tmp_path], capture_output=True, text=True, check=False)
    assert (told.returncode == 0) == (said == "")
    assert said in told.stderr


def test_this_tree_may_be_released() -> None:
    """The version of pyproject.toml has its section, with a date: nothing is merged that could not be released."""
    subprocess.run([*CONTENTS, "version", REPOSITORY], check=True, capture_output=True)


# -- the audit ---------------------------------------------------------------------------------------------------------

FINE = {"name": "numpy", "version": "2.4.6", "vulns": []}
HURT = {"name": "aiohttp", "version": "3.0", "vulns": [{"id": "PYSEC-2024-1", "fix_versions": ["3.9"], "aliases": []}]}
UNKNOWN = {"name": "pathcast", "skip_reason": "Dependency not found on PyPI"}


def audited(folder: Path, said: object, errors: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    """`.ci/audit.py` with a pip-audit that says this."""
    text = said if isinstance(said, str) else json.dumps(said)
    lines = ["import sys", f"print({text!r})", f"sys.stderr.write({errors!r})", f"sys.exit({status})"]
    (folder / "pip_audit.py").write_text("\n".join(lines))
    (folder / "env" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, REPOSITORY / ".ci" / "audit.py", folder / "env"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_known_vulnerability_fails_a_release(tmp_path: Path) -> None:
    told = audited(tmp_path, {"dependencies": [FINE, HURT, UNKNOWN]}, status=1)
    assert told.returncode == 1
    assert "aiohttp 3.0: PYSEC-2024-1, fixed in 3.9" in told.stdout


def test_packages_without_one_pass(tmp_path: Path) -> None:
    told = audited(tmp_path, {"dependencies": [FINE, UNKNOWN]})
    assert (told.returncode, "1 packages were judged" in told.stdout) == (0, True), told.stdout


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        ("", "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed"),
        ({"dependencies": [UNKNOWN, {**UNKNOWN, "name": "numpy"}, {**UNKNOWN, "name": "numba"}]}, ""),
    ],
)
def test_a_source_that_does_not_answer_is_said_and_fails_nothing(tmp_path: Path, said: object, errors: str) -> None:
    told = audited(tmp_path, said, errors, status=1)
    assert told.returncode == 0
    assert told.stdout.startswith("not asked")


def test_an_audit_that_fails_otherwise_fails(tmp_path: Path) -> None:
    told = audited(tmp_path, "", "Traceback (most recent call last):\nKeyError: 'name'", status=1)
    assert told.returncode == 1
    assert "pip-audit failed: KeyError" in told.stdout


def test_the_script_may_be_run() -> None:
    assert (REPOSITORY / ".ci" / "release").stat().st_mode & stat.S_IXUSR
