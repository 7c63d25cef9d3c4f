"""Keeps a connection to an MQTT broker: its session outlives it, and it is opened again when it is lost.

paho-mqtt speaks the protocol, in a thread of its own, with manual acknowledgement. aiomqtt has no such thing (its issue
345); it would acknowledge a message when it came, and Kafka might be away.

    QoS 1, 2    are subscribed to with QoS 1. The broker sends so many that are not acknowledged (`in_flight`), then it
                waits. What it has no acknowledgement of it sends again on the next connection.
    QoS 0       is never acknowledged. Such messages wait here, MAX_UNACKNOWLEDGED at most; more are dropped, and
                counted.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from typing import Any, Final, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from stream.config.security import Refused
from stream.config.times import DAY_S
from stream.ingest.mqtt.settings import MqttSettings
from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

CONNECT_S: Final = 10.0  # a broker that has not answered by then counts as unreachable, at the start
KEEPALIVE_S: Final = 30
SESSION_S: Final = 7 * DAY_S  # for how long the broker keeps what comes while we are away (MQTT 5)
RETRY_S: Final = (1, 30)  # before it connects again: at first, and at most
MAX_UNACKNOWLEDGED: Final = 10_000  # messages of QoS 0
MAX_PACKET_BYTES: Final = (
    256 * 1024
)  # of a message; a broker leaves larger ones out (MQTT 5). A ping has 64 KiB at most
SHARED: Final = "$share/"
TAKEN_OVER: Final = 0x8E  # another client came with our client id
SHORT_S: Final = 5.0  # a connection of less
SHORT_ONES: Final = 3  # in a row: probably two clients take the session from each other, and the broker does not say so
# With these a broker would refuse us again. Others, such as "server busy", may pass.
_REFUSALS: Final = {
    0x84: "is --mqtt-version right for this broker?",
    0x85: "is --client-id one that it takes?",
    0x86: "are --mqtt-user and PATHCAST_MQTT_PASSWORD right?",
    0x87: "are --mqtt-user and PATHCAST_MQTT_PASSWORD right, and may this user subscribe to --topic?",
    0x8A: "this user is banned there",
    0x8F: "is --topic a topic filter?",
    0x9E: "it has no shared subscriptions",
    0xA2: "it has no wildcards in subscriptions",
}


class Message(NamedTuple):
    """A message that came, and what is needed to acknowledge it."""

    topic: str
    payload: bytes
    qos: int
    number: int  # of the message, on its connection
    connection: int


class Connection:
    """Use `open`."""

    def __init__(self, settings: MqttSettings, source: Source) -> None:
        self.dropped = 0  # messages of QoS 0, as there was no room
        self._settings = settings
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._came: deque[Message] = deque()  # appended to by paho's thread
        self._woken = False  # the loop has been told that something came
        self._some = asyncio.Event()
        self._refusal: Refused | None = None
        self._connected = 0  # counts connections; 0: there is none
        self._connections = 0
        self._since_s = 0.0  # when the connection was made
        self._short = 0  # connections in a row that were lost at once
        self._closing = False
        self._client = self._make_client()

    @classmethod
    async def open(cls, settings: MqttSettings, source: Source) -> Connection:
        """Connects. Raises ConnectionError if no broker answers, Refused if we do not trust it."""
        found = cls(settings, source)
        try:
            await asyncio.to_thread(found._connect)
        except ssl.SSLError as error:
            raise Refused(f"no TLS with the MQTT broker at {settings.broker} ({error}): is --mqtt-ca right?") from error
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            said = f"no MQTT broker answers at {settings.broker} ({why}): is it up, are --broker and --mqtt-tls right?"
            raise ConnectionError(said) from error
        found._client.loop_start()
        return found

    async def close(self) -> None:
        """Ends the connection. The broker keeps the session, and in it what is not acknowledged."""
        self._closing = True
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def take(self, most: int) -> list[Message]:
        """Returns messages that have come, as soon as there is one. Raises Refused if the broker refuses us."""
        while not self._came:
            if self._refusal is not None:
                raise self._refusal
            self._some.clear()
            if not self._came:
                await self._some.wait()
        return [self._came.popleft() for _ in range(min(most, len(self._came)))]

    def acknowledge(self, message: Message) -> None:
        """Tells the broker that we have the message. One of a connection that is lost is left out: the broker sends it
        again, and its number may be another message's now."""
        if message.qos and message.connection == self._connected:
            self._client.ack(message.number, message.qos)

    def _make_client(self) -> paho.Client:
        settings = self._settings
        version = paho.MQTTv5 if settings.version == "5" else paho.MQTTv311
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if version == paho.MQTTv5 else False,
            protocol=version,
            manual_ack=True,
        )
        client.reconnect_delay_set(*RETRY_S)
        client.connect_timeout = CONNECT_S
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password)
        if (context := settings.context()) is not None:
            client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _connect(self) -> None:
        settings = self._settings
        if settings.version != "5":
            self._client.connect(settings.host, settings.port, KEEPALIVE_S)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's is not typed
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = settings.in_flight
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect(settings.host, settings.port, KEEPALIVE_S, clean_start=False, properties=properties)

    # -- in paho's thread

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._fail(reason, "connect")
            return
        self._connections += 1
        self._since_s = time.monotonic()
        self._connected = self._connections
        # Always, as the filters may be others than those of the session. Retained messages come for new ones only.
        for one in self._settings.filters:
            if self._settings.version == "5":
                only_new = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
                # A retained message for each member of a shared subscription is what MQTT forbids.
                client.subscribe(one, options=SubscribeOptions(qos=1) if one.startswith(SHARED) else only_new)
            else:
                client.subscribe(one, qos=1)
        kept = "the session is kept" if flags.session_present else "a new session"
        self._tell(self._back, kept)

    def _on_subscribe(self, client: Any, _: Any, number: int, reasons: list[ReasonCode], properties: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._fail(reason, "subscribe")

    def _on_disconnect(self, client: Any, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._connected = 0
        if self._closing:  # it is we who end it, and nothing is lost
            return
        name = self._settings.client_id
        self._short = self._short + 1 if time.monotonic() - self._since_s < SHORT_S else 0
        if reason.value == TAKEN_OVER:
            said = f"another client connects to {self._settings.broker} as {name}"
            self._refuse(f"{said}: give each process its own --client-id, or end the other one")
        elif self._short >= SHORT_ONES:
            self._tell(self._source.away, f"connection lost again and again: is another client there as {name}, too?")
        else:
            self._tell(self._source.away, f"connection lost ({reason})")

    def _on_connect_fail(self, client: Any, _: Any) -> None:
        self._tell(self._source.away, f"no MQTT broker answers at {self._settings.broker}")

    def _on_message(self, client: Any, _: Any, message: paho.MQTTMessage) -> None:
        if not message.qos and len(self._came) >= MAX_UNACKNOWLEDGED:
            self.dropped += 1
            return
        found = Message(message.topic, bytes(message.payload), message.qos, message.mid, self._connected)
        self._came.append(found)
        if not self._woken:
            self._woken = True
            self._tell(self._wake)

    def _fail(self, reason: ReasonCode, to: str) -> None:
        said = f"the MQTT broker at {self._settings.broker} does not let us {to} ({reason})"
        hint = _REFUSALS.get(reason.value)
        if hint is None:
            self._tell(self._source.away, said)
        else:
            self._refuse(f"{said}: {hint}")

    def _refuse(self, said: str) -> None:
        self._refusal = Refused(said)
        self._tell(self._some.set)

    def _tell(self, what: Any, *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    # -- in the event loop

    def _wake(self) -> None:
        self._woken = False  # first, so that a message that comes now wakes us once more
        self._some.set()

    def _back(self, kept: str) -> None:
        log.info("connected to the MQTT broker at %s as %s: %s", self._settings.broker, self._settings.client_id, kept)
        self._source.back()
