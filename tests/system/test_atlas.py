"""An atlas from a topic is that of the file which was fed into it."""

from __future__ import annotations

import json
from pathlib import Path

from bus_feed import SAMPLE
from pathcast_process import pathcast


def test_an_atlas_from_a_topic_is_that_of_the_file(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    assert (
        pathcast("topics", "--create", "--partitions", 3, "--bootstrap", kafka, "--prefix", topic_prefix).returncode
        == 0
    )
    fed = pathcast("feed", SAMPLE, "--speedup", 0, "--bootstrap", kafka, "--prefix", topic_prefix)
    assert fed.returncode == 0, fed.stderr
    of_file, of_topic = tmp_path / "file.atlas", tmp_path / "topic.atlas"
    told = pathcast("atlas", "build", "--data", SAMPLE, "--out", of_file, "--json")
    assert told.returncode == 0, told.stderr
    source = ("--from-topic", f"{topic_prefix}.pings.v1", "--bootstrap", kafka)
    again = pathcast("atlas", "build", *source, "--out", of_topic, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(told.stdout) == json.loads(again.stdout)
    assert of_file.read_bytes() == of_topic.read_bytes()


def test_a_topic_that_is_not_there_is_one_line(kafka: str, tmp_path: Path) -> None:
    done = pathcast("atlas", "build", "--from-topic", "no.such", "--bootstrap", kafka, "--out", tmp_path / "a.atlas")
    assert done.returncode == 1
    assert b"no topic no.such" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
