"""Describes how to reach an MQTT broker, and what to subscribe to."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from stream.adapters.live import presets
from stream.adapters.live.formats import owntracks
from stream.adapters.live.parsed import Parsed
from stream.config import environment

TopicReader = Callable[[bytes, int, str], list[Parsed]]  # payload, when it came in ms since 1970 UTC, topic


class Format(NamedTuple):
    """A format, and what reads it."""

    name: str  # of the adapter
    read: TopicReader


def format_of(given: str) -> Format:
    """Returns the format of a preset's name, or of a file with a map. Raises ValueError, OSError."""
    if given == owntracks.NAME:
        return Format(given, lambda raw, came_ms, topic: owntracks.read(raw, came_ms, owntracks.device_of(topic)))
    found = presets.find_preset(given)
    return Format(found.name, lambda raw, came_ms, _: found.read(raw, came_ms))


PASSWORD: Final = environment.MQTT_PASSWORD.removeprefix(environment.OURS)
PORT, TLS_PORT = 1883, 8883


@dataclass(frozen=True)
class MqttSettings:
    """States how to connect. Raises ValueError for a contradiction, or a file that cannot be read."""

    host: str
    port: int
    filters: tuple[str, ...]  # topics with wildcards, also $share/GROUP/FILTER
    read: TopicReader
    client_id: str
    version: str = "5"  # or "3.1.1"
    in_flight: int = 500  # messages that the broker sends before it must have an acknowledgement (MQTT 5)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None  # PEM; None: the CAs that this machine trusts
    certificate: Path | None = None  # PEM, our own, where the broker wants one
    key: Path | None = None  # PEM, of `certificate`, where it is not in the same file

    def __post_init__(self) -> None:
        if not self.filters or not all(self.filters):
            raise ValueError("give at least one --topic, such as 'owntracks/+/+'")
        if self.password and not self.user:
            raise ValueError("PATHCAST_MQTT_PASSWORD is set: give --mqtt-user, too")
        if self.key and not self.certificate:
            raise ValueError("--mqtt-key is the key of a certificate: give --mqtt-cert, too")
        if not self.tls and (self.ca or self.certificate):
            raise ValueError("--mqtt-ca and --mqtt-cert are for TLS: give --mqtt-tls, too")
        self.context()  # reads the files, so that a wrong one is an error at the start

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """Returns a TLS context, which always checks certificate and host name; None without TLS."""
        if not self.tls:
            return None
        option, path = "--mqtt-ca", self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                option, path = "--mqtt-cert", self.certificate
                # An empty password, so that a locked key is an error and not a question on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"{option} {path} cannot be used ({error}): it should be a PEM file") from error
        return context


def address(text: str, *, tls: bool) -> tuple[str, int]:
    """Returns host and port of HOST, HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(TLS_PORT if tls else PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return host, int(port)
