"""What a worker says when it cannot start: one line, the address, the likely cause, exit 1."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import Worker

from model.checkpoint import save_pretrained
from model.config import ModelConfig
from model.network import build


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing answers: the port is taken, so that nothing else can, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def refusal(log: Path, **options: object) -> str:
    with Worker(log, **options) as worker:
        assert worker.wait() == 1, worker.log()
        return worker.log().strip()


def assert_one_line(text: str, *parts: str) -> None:
    line = text.splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in text
    for part in parts:
        assert part in line


def test_no_broker(redis_url: str, nobody: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=nobody, redis=redis_url)
    assert_one_line(text, nobody, "PATHCAST_BOOTSTRAP")


def test_no_redis(kafka: str, nobody: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=f"redis://{nobody}/0")
    assert_one_line(text, nobody, "PATHCAST_REDIS")


def test_no_weights(kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path / "none")
    assert_one_line(text, "none", "weights")


def test_cut_weights(kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path) -> None:
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 2000 if path.suffix == ".safetensors" else None])
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path)
    assert_one_line(text, str(tmp_path))


@pytest.mark.parametrize(("way", "why"), [({"patch": 2}, "patch of 2 pings"), ({"positions": "learned"}, "512 pings")])
def test_weights_that_no_stream_can_be_served_with(
    kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path, way: dict[str, Any], why: str
) -> None:
    save_pretrained(build(ModelConfig(name="odd", d=16, heads=2, window=8, **way), 0), tmp_path / "odd", "card")
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path / "odd")
    assert_one_line(text, "'odd' cannot be served", why)


@pytest.mark.parametrize(
    ("options", "said"), [({"horizons": "60,soon"}, "--horizons"), ({"max_batch": 0}, "--max-batch")]
)
def test_bad_usage_is_exit_2(options: dict[str, object], said: str, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **options) as worker:
        assert worker.wait() == 2
        assert said in worker.log()
