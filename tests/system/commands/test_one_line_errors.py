"""What commands say when a server answers and something else is wrong: one line, exit code 1, and nothing is created.
What they say without a server is in tests/test_one_line_errors.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_here import NOBODY, SECRET, Refusal, assert_refused, impatient, name_of

from stream.kafka import admin
from stream.wire import Topics

WORKER = "worker --bootstrap {kafka} --redis {redis} --prefix {prefix}"
AT = "--bootstrap {kafka} --prefix {prefix}"
AT_ODD = "--bootstrap {kafka} --prefix {odd}"
ATLAS = "beside atlas --once --atlases {tmp}"
ARCHIVE = "beside archive --once --late=forever --archive-retention=forever"
ERRORS = [
    Refusal(f"{WORKER} --bootstrap {{nobody}}", 1, "no Kafka broker answers at {nobody} ... PATHCAST_BOOTSTRAP"),
    Refusal(f"{WORKER} --bootstrap x.invalid:9092", 1, "unknown host x.invalid ... PATHCAST_BOOTSTRAP"),
    Refusal(f"{WORKER} --weights {{tmp}}/none", 1, "no weights at '{tmp}/none'"),
    Refusal(f"{WORKER} --no-create", 1, "there is no topic {topics} ... --no-create ... PATHCAST_PREFIX"),
    Refusal(f"{WORKER} --no-create --workers 2", 1, "there is no topic {topics} ... --no-create ... PATHCAST_PREFIX"),
    Refusal(f"feed - {AT}", 1, "{prefix}.pings.v1 ... pathcast dev topics --create"),
    Refusal(f"export csv {AT}", 1, "no topic {prefix}.forecasts.v1"),
    Refusal(f"map --listen 0 {AT}", 1, "there is no topic {prefix}.forecasts.v1 at {kafka}: is --prefix right?"),
    Refusal("train atlas --from-topic {prefix} --out {tmp}/a.atlas --bootstrap {kafka}", 1, "no topic {prefix}"),
    Refusal(f"{ATLAS} --redis {{redis}} {AT}", 1, "there is no topic {prefix}.pings.v1"),
    Refusal(f"{ATLAS} --redis redis://:{{secret}}@{{nobody}} {AT_ODD}", 1, "redis://:***@{nobody}"),
    Refusal(f"{ARCHIVE} --archive {{tmp}} {AT}", 1, "there is no topic {prefix}.pings.v1"),
    Refusal(f"{ARCHIVE} --archive http://{{nobody}}/x {AT_ODD}", 1, "http:// cannot create a file"),
    Refusal(f"beside latest --once {AT}", 1, "there is no topic {prefix}."),
    Refusal(f"beside latest --once {AT_ODD}", 1, "needs topics with as many partitions as each other"),
    Refusal(f"beside scores --once {AT}", 1, "there is no topic {prefix}."),
    Refusal(f"models scores {AT}", 1, "there is no topic {prefix}."),
    Refusal(f"beside arrivals --once {AT}", 1, "there is no topic {prefix}."),
    Refusal(f"beside arrivals --once --history topic:nowhere {AT_ODD}", 1, "no topic nowhere"),
    Refusal(f"tail arrivals {AT}", 1, "there is no topic {prefix}."),
    Refusal(f"ingest mqtt --broker {{nobody}} --topic a/# {AT_ODD}", 1, "no MQTT broker answers at {nobody}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(kafka: str) -> str:
    """The prefix of topics that do not have as many partitions as each other."""
    topics = Topics.of("odd-partitions")
    with admin.connected(kafka) as client:
        for name, partitions in ((topics.pings, 3), (topics.forecasts, 2), (topics.gapfills, 3)):
            admin.create_other(client, topics, name, partitions=partitions)
        admin.create_other(client, topics, topics.dead_letters, partitions=1)
    return topics.prefix


@pytest.mark.parametrize("refusal", ERRORS, ids=name_of)
def test_what_is_wrong_is_one_line_and_no_topic_and_no_file_is_made(
    refusal: Refusal, kafka: str, redis_url: str, topic_prefix: str, odd: str, tmp_path: Path
) -> None:
    places = {"kafka": kafka, "redis": redis_url, "nobody": NOBODY, "secret": SECRET, "tmp": tmp_path, "odd": odd}
    topics = ", ".join(Topics.of(topic_prefix))
    with impatient():
        assert_refused(refusal, {**places, "prefix": topic_prefix, "topics": topics})
    assert not list(tmp_path.iterdir())
    with admin.connected(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith(topic_prefix)]
