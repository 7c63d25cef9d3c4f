"""What the settings of MQTT refuse, and what becomes of a broker's answers, without a broker: tests/system/ingest has a
real one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from stream.config.security import Refused
from stream.ingest.mqtt import connection
from stream.ingest.mqtt.connection import Connection
from stream.ingest.mqtt.settings import MqttSettings, address, format_of
from stream.ingest.source import Source


def settings(**more: Any) -> MqttSettings:
    given = {"filters": ("owntracks/+/+",), "read": format_of("owntracks").read, "client_id": "t", **more}
    return MqttSettings(host="broker", port=1883, **given)


def reason(packet: int, code: int) -> ReasonCode:
    return ReasonCode(packet, identifier=code)


@pytest.mark.parametrize(
    ("text", "tls", "expected"),
    [
        ("broker", False, ("broker", 1883)),
        ("broker", True, ("broker", 8883)),
        ("broker:1884", True, ("broker", 1884)),
        ("[::1]:1884", False, ("::1", 1884)),
        ("[::1]", False, ("::1", 1883)),
    ],
)
def test_an_address_has_the_port_of_mqtt_unless_it_names_one(text: str, tls: bool, expected: tuple[str, int]) -> None:
    assert address(text, tls=tls) == expected


@pytest.mark.parametrize("text", ["", ":1883", "broker:", "broker:0", "broker:65536", "broker:mqtt", "broker:-1"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        address(text, tls=False)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"filters": ()}, "at least one --topic"),
        ({"password": "x"}, "give --mqtt-user, too"),
        ({"tls": True, "key": Path("k.pem")}, "give --mqtt-cert, too"),
        ({"ca": Path("ca.pem")}, "give --mqtt-tls, too"),
        ({"tls": True, "ca": Path("absent.pem")}, "--mqtt-ca absent.pem cannot be used"),
    ],
)
def test_contradictions_are_errors_at_the_start(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**more)


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(settings(user="u", password="secret"))


@pytest.mark.parametrize(
    ("packet", "code", "said"),
    [
        (PacketTypes.CONNACK, 0x84, "--mqtt-version"),
        (PacketTypes.CONNACK, 0x86, "PATHCAST_MQTT_PASSWORD"),
        (PacketTypes.SUBACK, 0x87, "may this user subscribe"),
        (PacketTypes.DISCONNECT, 0x8E, "give each process its own --client-id"),
    ],
)
async def test_a_refusal_ends_the_process_with_what_to_look_at(packet: int, code: int, said: str) -> None:
    found = Connection(settings(), Source("mqtt"))
    waiting = asyncio.create_task(found.take(1))
    await asyncio.sleep(0)
    if packet == PacketTypes.CONNACK:
        found._on_connect(found._client, None, None, reason(packet, code), None)
    elif packet == PacketTypes.SUBACK:
        found._on_subscribe(found._client, None, 1, [reason(packet, code)], None)
    else:
        found._on_disconnect(found._client, None, None, reason(packet, code), None)
    with pytest.raises(Refused, match=said):
        await waiting


async def test_a_server_that_is_busy_is_away_and_not_a_refusal() -> None:
    source = Source("mqtt")
    found = Connection(settings(), source)
    found._on_connect(found._client, None, None, reason(PacketTypes.CONNACK, 0x89), None)
    await asyncio.sleep(0)
    assert source.is_away
    assert found._refusal is None


async def test_a_connection_that_we_end_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C ended with a warning that the source is away: paho tells of our own disconnect as of any other."""
    source = Source("mqtt")
    found = Connection(settings(), source)
    normal = reason(PacketTypes.DISCONNECT, 0)
    monkeypatch.setattr(
        found._client, "disconnect", lambda: found._on_disconnect(found._client, None, None, normal, None)
    )
    await found.close()
    await asyncio.sleep(0)
    assert not source.is_away
    assert not caplog.messages


def message(number: int, qos: int) -> MQTTMessage:
    found = MQTTMessage(number, b"owntracks/jo/pixel")
    found.payload, found.qos = b"{}", qos
    return found


async def test_only_messages_of_the_present_connection_are_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Connection(settings(), Source("mqtt"))
    acknowledged: list[int] = []
    monkeypatch.setattr(found._client, "ack", lambda number, qos: acknowledged.append(number))
    monkeypatch.setattr(found._client, "subscribe", lambda *_, **__: None)
    for number in (1, 2):

        class Flags:
            session_present = True

        found._on_connect(found._client, None, Flags, reason(PacketTypes.CONNACK, 0), None)
        found._on_message(found._client, None, message(number, 1))
        if number == 1:
            found._on_disconnect(found._client, None, None, reason(PacketTypes.DISCONNECT, 0x80), None)
    found._on_message(found._client, None, message(0, 0))
    for one in await found.take(10):
        found.acknowledge(one)
    assert acknowledged == [2], "1 may be another message's number by now, and 0 needs no acknowledgement"


async def test_unacknowledged_messages_wait_up_to_a_number_and_more_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_UNACKNOWLEDGED", 3)
    found = Connection(settings(), Source("mqtt"))
    for _ in range(5):
        found._on_message(found._client, None, message(0, 0))
    found._on_message(found._client, None, message(7, 1))
    assert [one.qos for one in await found.take(10)] == [0, 0, 0, 1]
    assert found.dropped == 2
