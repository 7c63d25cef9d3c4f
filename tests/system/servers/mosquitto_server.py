"""Mosquitto on loopback, which can be killed and started again, and a publisher. Tests import this; it tests nothing
itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from missing_servers import skip_unless_required
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port

UP_S = 120.0  # a bound on waiting
# Debian installs the server where only root's PATH looks.
BINARY = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
# What the page tells people to set, so that the broker keeps all that comes while nobody reads.
KEEPS_ALL = "max_queued_messages 0\npersistence true\nautosave_interval 1\nautosave_on_changes true\n"


class Mosquitto:
    """Use `running`."""

    def __init__(self, home: Path, more: str) -> None:
        self.port = free_port()
        self.broker = f"{HOST}:{self.port}"
        self._home = home
        self._config = home / "mosquitto.conf"
        lines = f"listener {self.port} {HOST}\npersistence_location {home}/\nlog_type all\n{more}"
        self._config.write_text(lines if "allow_anonymous" in more else f"{lines}\nallow_anonymous true\n")
        self._server: Supervised | None = None

    def start(self) -> None:
        assert BINARY is not None
        # As root it would change to a user who cannot write here.
        self._server = Supervised([BINARY, "-c", str(self._config)], log=self._home / "mosquitto.log")
        deadline = time.monotonic() + UP_S
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1.0).close()
                return
            except OSError:
                assert self._server.running, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, as its service ends: it writes what it keeps to the disk."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def kill(self) -> None:
        """kill -9."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGKILL)
        self.stop()

    def log(self) -> str:
        path = self._home / "mosquitto.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def running(home: Path, more: str = KEEPS_ALL) -> Iterator[Mosquitto]:
    """Skips the test, or fails it where real servers are demanded, if there is no Mosquitto here."""
    if BINARY is None:
        skip_unless_required("needs Mosquitto (mosquitto): no such command on PATH")
    home.chmod(0o755)
    owner = "root" if os.geteuid() == 0 else ""
    found = Mosquitto(home, f"user {owner}\n{more}" if owner else more)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def password_file(home: Path, user: str, password: str) -> Path:
    """A password file of Mosquitto's with one user."""
    program = shutil.which("mosquitto_passwd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "mosquitto_passwd comes with mosquitto"
    path = home / "passwords"
    subprocess.run([program, "-b", "-c", str(path), user, password], check=True, capture_output=True, timeout=20)
    path.chmod(0o644)
    return path


class Publisher:
    """Publishes with QoS 1, and knows what the broker has acknowledged."""

    def __init__(self, broker: Mosquitto, *, client_id: str = "phones", user: str | None = None, **more: Any) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._client.max_inflight_messages_set(1_000)
        self._client.max_queued_messages_set(0)
        if user is not None:
            self._client.username_pw_set(user, more.get("password"))
        if "context" in more:
            self._client.tls_set_context(more["context"])
        self._client.connect(HOST, broker.port)
        self._client.loop_start()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> paho.MQTTMessageInfo:
        return self._client.publish(topic, payload, qos=qos, retain=retain)

    def publish_all(self, messages: Sequence[tuple[str, bytes]], *, qos: int = 1, patience_s: float = 60.0) -> None:
        """Returns when the broker has acknowledged all of them."""
        sent = [self.publish(topic, payload, qos=qos) for topic, payload in messages]
        for one in sent:
            one.wait_for_publish(patience_s)
            assert one.is_published()
