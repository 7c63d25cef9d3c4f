"""The rules that deploy's container gives a worker, on this machine's own kernel: no Docker is needed for a read-only
root, a user without rights and an empty /tmp. The image itself is built nowhere here: hadolint reads its recipe."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import yaml
from secured_servers import redis_rules
from worker_process import PATHCAST, Worker, assert_all_live

from stream.wire import Topics

DEPLOY = Path(__file__).parents[3] / "deploy"
NOBODY = 10001
PINGS = 200
# $1 becomes a tmpfs, the rest of the system read-only; what follows runs there as NOBODY.
CONFINE = f"""
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs -o mode=1777 tmpfs "$1"
export HOME="$1" TMPDIR="$1" NUMBA_CACHE_DIR="$1/numba" PYTHONDONTWRITEBYTECODE=1
shift
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def confined(scratch: Path, *command: str | Path) -> list[str | Path]:
    return ["unshare", "--mount", "bash", "-c", CONFINE, "confine", scratch, *command]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The folder that becomes a tmpfs, where this machine lets us make one."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("a read-only root needs root, unshare and setpriv")
    tried = subprocess.run(confined(folder, "true"), capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no mounts of our own here: {tried.stderr.strip()}")
    seen = subprocess.run(confined(folder, "test", "-x", PATHCAST), timeout=30, check=False)
    if seen.returncode != 0:
        pytest.skip(f"user {NOBODY} may not run {PATHCAST.name}, as it lies in a folder of somebody else")
    return folder


def test_a_worker_needs_no_right_and_no_file_system_but_a_tmp(
    scratch: Path, kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    written = subprocess.run(confined(scratch, "touch", "/etc/pathcast"), capture_output=True, timeout=30, check=False)
    assert b"Read-only file system" in written.stderr, "confined, or else this shows nothing"
    options = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix, "partitions": 2}
    with Worker(tmp_path / "log", program=confined(scratch, PATHCAST), **options) as worker:
        worker.wait_until_ready()
        topics = Topics.of(topic_prefix)
        bus_feed.send(kafka, topics.pings, bus_feed.fleet(PINGS, seed=1))
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    assert sum(1 for _ in bus_feed.read(kafka, topics.forecasts)) > PINGS // 2


def test_the_container_gives_no_more_than_that() -> None:
    worker: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["worker-1"]
    assert (worker["read_only"], worker["user"], worker["cap_drop"]) == (True, f"{NOBODY}:{NOBODY}", ["ALL"])
    assert worker["security_opt"] == ["no-new-privileges:true"]
    assert [mount.partition(":")[0] for mount in worker["tmpfs"]] == ["/tmp"]
    # It writes compiled kernels, and reads what others make.
    assert [mount for mount in worker["volumes"] if not mount.endswith(":ro")] == ["kernels:/var/lib/pathcast/kernels"]
    assert f"USER {NOBODY}:{NOBODY}" in (DEPLOY / "Dockerfile").read_text().splitlines()


def test_the_recipe_of_the_image_has_no_fault_that_hadolint_knows() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: its package has no build for this system")
    told = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_the_user_of_up_may_in_redis_what_its_parts_may() -> None:
    """deploy/PRODUCTION.md once gave `up` the user of workers, and `beside` was refused again and again."""
    rights = {user: set(rule.split()) for user, rule in redis_rules()}
    parts = rights["pathcast"] | rights["atlas"] | rights["api"]
    assert rights["up"] == parts - {"%R~pathcast:*"}, "api reads what the others write"
