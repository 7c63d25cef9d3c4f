"""The servers that the fixtures give are real and apart from each other, and a missing one is named."""

from __future__ import annotations

import missing_servers
import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer


def test_a_record_comes_back_from_the_broker_as_it_went_in(kafka: str, topic_prefix: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka)
    producer.send(f"{topic_prefix}.t", key=b"k", value=b"\x00\xff", headers=[("h", b"1")]).get(30)
    producer.close()
    consumer = KafkaConsumer(
        f"{topic_prefix}.t", bootstrap_servers=kafka, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    record = next(consumer)
    consumer.close()
    assert (record.key, record.value, record.headers) == (b"k", b"\x00\xff", [("h", b"1")])


@pytest.mark.parametrize("turn", ["first", "second"])
def test_redis_starts_each_test_empty_and_runs_lua(redis_url: str, turn: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0, "the turn before left its key"
        assert client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "left", turn) == b"OK"


def how_it_ends() -> type[BaseException]:
    """Both outcomes are caught here, as one that escapes would only skip the test that asks."""
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no redis-server on PATH") as ended:
        missing_servers.skip_unless_required("no redis-server on PATH")
    return ended.type


def test_a_test_is_skipped_where_its_server_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in missing_servers.REQUIRED:
        monkeypatch.delenv(name, raising=False)
    assert how_it_ends() is pytest.skip.Exception


@pytest.mark.parametrize("name", missing_servers.REQUIRED)
def test_it_fails_where_the_servers_are_required(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in missing_servers.REQUIRED:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    assert how_it_ends() is pytest.fail.Exception
