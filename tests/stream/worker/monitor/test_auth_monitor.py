"""What aiokafka logs of brokers that will not let us in, and when that is their last word."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed

from stream.config.security import KafkaSecurity, Protocol, Refused
from stream.worker.monitor import auth_monitor
from stream.worker.monitor.auth_monitor import CERTAIN_S, CLIENT, PAUSE_S, AuthMonitor

SECURITY = KafkaSecurity(Protocol.SASL_PLAINTEXT, user="worker", password="no secret")


class Heard:
    """Refusals on a clock of its own, which hear the log as a worker's do."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.refusals = AuthMonitor("kafka:9092", SECURITY, lambda: self.now)

    def says(self, error: Exception, after_s: float = 0.0) -> None:
        """As `AIOKafkaClient` does."""
        self.now += after_s
        record = logging.LogRecord(
            CLIENT, logging.ERROR, __file__, 1, "Unable connect to node %s: %s", (1, error), None
        )
        self.refusals.handle(record)


def refused() -> Exception:
    return SaslAuthenticationFailed("wrong password")


def test_a_refusal_that_goes_on_is_the_last_word() -> None:
    heard = Heard()
    for _ in range(int(CERTAIN_S)):
        heard.says(refused(), after_s=1.0)
        assert heard.refusals.last_word is None
    heard.says(refused(), after_s=1.0)
    assert "refuses user worker" in str(heard.refusals.last_word)


def test_a_refusal_that_stops_is_forgotten() -> None:
    """As by a broker that had not learned the password yet."""
    heard = Heard()
    for _ in range(3):
        heard.says(refused(), after_s=PAUSE_S + 1)
        heard.says(refused(), after_s=PAUSE_S)
        assert heard.refusals.last_word is None


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), OSError("no route"), TimeoutError()])
def test_a_broker_that_is_away_refuses_nobody(error: Exception) -> None:
    heard = Heard()
    for _ in range(100):
        heard.says(error, after_s=1.0)
    assert heard.refusals.last_word is None


async def test_the_log_is_listened_to_for_as_long_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_monitor, "LOOK_S", 0.001)
    now = 0.0
    listening = asyncio.create_task(AuthMonitor("kafka:9092", SECURITY, lambda: now).run())
    client = logging.getLogger(CLIENT)
    before = list(client.handlers)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(30):  # who listens to nothing would never be done
        while not listening.done():
            client.error("Unable connect to node with id %s: %s", 1, refused())
            now += 1.0
            await asyncio.sleep(0.002)
    with pytest.raises(Refused, match="refuses user worker"):
        await listening
    assert now >= CERTAIN_S
    assert client.handlers == before
