"""Secures connections to Kafka and Redis: protocols, certificates, users, passwords, and what refusals mean.

What is not secret has options (`stream.config.options`). Secrets come from the environment, or from a file that it
names, never from an option, because `ps` shows that.

    PATHCAST_KAFKA_PASSWORD, PATHCAST_REDIS_PASSWORD              the password itself
    PATHCAST_KAFKA_PASSWORD_FILE, PATHCAST_REDIS_PASSWORD_FILE    a file that holds it, such as a mounted secret

A refusal (`Refused`) differs from an outage: an unreachable server may come back, one that refuses will refuse again.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stream.config.reasons import list_reasons

# The errors of Redis 7.0 and later for a script whose commands its user may not run: they have no code of their own.
_SCRIPT_MAY_NOT: Final = re.compile("The user executing the script can't|ACL failure in script")
# OpenSSL's reasons: a certificate that one side does not trust, or bytes that are no TLS.
_TLS_SAYS_NO: Final = re.compile("CERTIFICATE|UNKNOWN_CA|WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE")
ANSWER_S: Final = 4.0  # a broker that has not answered by then is left to the client, which tries for longer
# What is said besides of a topic that is not there, where brokers ask who we are.
HIDDEN: Final = "; or this user may not see it, as brokers hide what it has no right to (deploy/SECURITY.md)"


class Refused(RuntimeError):
    """A server answered and refused, or we do not trust it. Waiting does not help."""


class Protocol(StrEnum):
    """The security protocols, with Kafka's names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """The mechanisms of SASL, with Kafka's names."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True)
class KafkaSecurity:
    """States how to connect to the brokers. Raises ValueError for a contradiction, or a file that cannot be read."""

    protocol: Protocol = Protocol.PLAINTEXT
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # PEM; None: the CAs that this machine trusts
    certificate: Path | None = None  # PEM, our own, where the brokers want one
    key: Path | None = None  # PEM, of `certificate`, where it is not in the same file

    def __post_init__(self) -> None:
        named = f"--kafka-security is {self.protocol}"
        if self.sasl and not (self.user and self.password):
            missing = "PATHCAST_KAFKA_PASSWORD or PATHCAST_KAFKA_PASSWORD_FILE" if self.user else "--kafka-user"
            raise ValueError(f"{named}, which needs a user and a password: set {missing}")
        if not self.sasl and (self.user or self.password):
            raise ValueError(f"{named}, which sends neither user nor password: should it be SASL_SSL?")
        if not self.tls and (self.ca or self.certificate or self.key):
            raise ValueError(f"{named}, which uses no certificates: should it be {'SASL_SSL' if self.sasl else 'SSL'}?")
        if self.key and not self.certificate:
            raise ValueError("--kafka-key is the key of a certificate: give --kafka-cert, too")
        self.arguments()  # reads the files, so that a wrong one is an error at the start

    @property
    def tls(self) -> bool:
        return self.protocol in (Protocol.SSL, Protocol.SASL_SSL)

    @property
    def sasl(self) -> bool:
        return self.protocol in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL)

    def arguments(self) -> dict[str, Any]:
        """Returns arguments for any client of aiokafka or kafka-python, which agree on these names."""
        given: dict[str, Any] = {"security_protocol": self.protocol.value}
        if self.tls:
            given["ssl_context"] = self.context()
        if self.sasl:
            given["sasl_mechanism"] = self.mechanism.value
            given |= {"sasl_plain_username": self.user, "sasl_plain_password": self.password}
        return given

    def context(self) -> ssl.SSLContext:
        """Returns a TLS context. It always checks certificate and host name of the broker."""
        option, path = "--kafka-ca", self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                option, path = "--kafka-cert", self.certificate
                # An empty password, so that a locked key is an error and not a question on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"{option} {path} cannot be used ({error}): it should be a PEM file") from error
        return context


@dataclass(frozen=True)
class RedisSecurity:
    """Holds what a Redis URL does not contain. The user is in the URL: rediss://user@host:6379/0."""

    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # PEM; None: the CAs that this machine trusts

    def arguments(self, url: str) -> dict[str, Any]:
        """Returns arguments for `from_url` of redis-py.

        Raises ValueError for a contradiction, or a file that cannot be used; no secret is in its text.
        """
        parts = _parts(url)
        if self.password is not None and parts.password:
            raise ValueError(f"{shown(url)} holds a password, and PATHCAST_REDIS_PASSWORD is set, too: which one?")
        if self.ca is not None and parts.scheme != "rediss":
            raise ValueError(f"--redis-ca is for TLS, and {shown(url)} is not: should it begin with rediss://?")
        given: dict[str, Any] = {} if self.password is None else {"password": self.password}
        if self.ca is not None:
            try:
                ssl.create_default_context(cafile=self.ca)  # redis-py would raise only when it connects
            except OSError as error:
                raise ValueError(f"--redis-ca {self.ca} cannot be used ({error}): it should be a PEM file") from error
            given["ssl_ca_certs"] = str(self.ca)
        return given


PLAIN_KAFKA: Final = KafkaSecurity()
PLAIN_REDIS: Final = RedisSecurity()


def secret(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns PATHCAST_<name>, or the contents of the file that PATHCAST_<name>_FILE names, without its last line end.

    Raises ValueError if both are set, or the file is empty or cannot be read.
    """
    variable = f"PATHCAST_{name}"
    value, path = environment.get(variable) or None, environment.get(f"{variable}_FILE") or None
    if path is None:
        return value
    if value is not None:
        raise ValueError(f"both {variable} and {variable}_FILE are set: which one?")
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{variable}_FILE names {path}, which cannot be read: {type(error).__name__}") from error
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ValueError(f"{variable}_FILE names {path}, which is empty")
    return value


def shown(url: str) -> str:
    """Returns a URL for people: whatever may be a password is ***, in a malformed URL, too."""
    text = re.sub(r"([?&][a-z_]*password=)[^&]*", r"\1***", url, flags=re.IGNORECASE)
    # The scheme is matched separately: after a possessive group, Python 3.11.2 (Debian's) loses the user.
    scheme = re.match("([a-z+]*://)?", text)[0]  # type: ignore[index]  # it always matches
    return scheme + re.sub("^([^:]*):.*@", r"\1:***@", text.removeprefix(scheme), flags=re.DOTALL)


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a property that raises, with half a password in its text where that holds a slash
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            f"{shown(url)} is no Redis URL, such as rediss://user@host:6379/0: has its password characters that a URL "
            "escapes? (PATHCAST_REDIS_PASSWORD takes any)"
        ) from None
    return parts


def unknown_host(addresses: str) -> str | None:
    """Returns the first host of `host:port[,host:port...]` if this machine can resolve none of them, otherwise None.

    It asks the resolver, so call it after a connection has failed.
    """
    try:
        hosts = [urlsplit(f"//{address.strip()}").hostname or "" for address in addresses.split(",")]
    except ValueError:  # brackets of an IPv6 address that do not match, say
        return None
    return hosts[0] if not any(_is_known(host) for host in hosts) else None


def _is_known(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):  # a label that is empty or too long is a UnicodeError
        return False


# -- what a refusal means ---------------------------------------------------------------------------------------


def check_access(bootstrap: str, security: KafkaSecurity) -> None:
    """Logs in to a broker, if certificates or passwords are used.

    The clients themselves take a refusal for a broker that cannot be reached: they try again for seconds, and then
    report a timeout.

    Raises:
        Refused: a broker answered and refused us, or cannot be trusted.
    """
    if security.tls or security.sasl:
        with ThreadPoolExecutor(1) as thread:  # no event loop runs in this thread
            thread.submit(asyncio.run, _log_in(bootstrap, security)).result()


async def _log_in(bootstrap: str, security: KafkaSecurity) -> None:
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError

    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=int(ANSWER_S * 1000), **security.arguments()
            )
            connection.close()
            return
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            if (refusal := kafka_refusal(server, security, error)) is not None:
                raise refusal from error
            # Another broker may answer; otherwise the client reports that none does.


def kafka_refusal(bootstrap: str, security: KafkaSecurity, error: BaseException) -> Refused | None:
    """Returns the error of either Kafka client as a refusal, in one line; None if it is something else."""
    name, who = type(error).__name__, f"user {security.user}" if security.sasl else "us, who gave no user"
    if name in ("SaslAuthenticationFailedError", "SaslAuthenticationFailed", "AuthenticationFailedError"):
        return Refused(
            f"Kafka at {bootstrap} refuses {who} by {security.mechanism} ({error}): are --kafka-user, "
            "--kafka-mechanism and PATHCAST_KAFKA_PASSWORD right?"
        )
    if name in ("UnsupportedSaslMechanismError", "IllegalSaslStateError"):
        return Refused(
            f"Kafka at {bootstrap} takes no {security.mechanism} ({error}): are --kafka-mechanism and "
            "--kafka-security right?"
        )
    if "AuthorizationFailed" in name or name == "AuthorizationError":
        return Refused(
            f"Kafka at {bootstrap} does not let {who} do that ({name}: {error}): has it the rights that "
            "deploy/SECURITY.md lists?"
        )
    return _untrusted(f"Kafka at {bootstrap}", error, "--kafka-ca")


def in_words(error: BaseException) -> str:
    """Returns an error's text, or its name, as errors of Kafka's clients often have none."""
    return str(error) or type(error).__name__


def redis_refusal(url: str, error: BaseException) -> Refused | None:
    """Returns an error of redis-py as a refusal, in one line; None if it is something else."""
    from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

    where = f"Redis at {shown(url)}"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return Refused(f"{where} refuses us ({error}): are the user in --redis and PATHCAST_REDIS_PASSWORD right?")
    if isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and _SCRIPT_MAY_NOT.match(str(error))):
        return Refused(
            f"{where} lets us in, but not do that ({error}): has the user the rights that deploy/SECURITY.md lists?"
        )
    return _untrusted(where, error, "--redis-ca")


def _untrusted(who: str, raised: BaseException, option: str) -> Refused | None:
    """Returns the refusal for the TLS error that `raised` was raised from, if that error would come again."""
    error = next((one for one in list_reasons(raised) if isinstance(one, ssl.SSLError)), None)
    if error is None or not _TLS_SAYS_NO.search(getattr(error, "reason", None) or ""):
        return None  # a server that ended in the middle of a handshake, say
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"no TLS with {who} ({error.reason}): does it speak that here, or want a certificate of ours?")
    reason = error.verify_message.rstrip(".")
    if "expired" in reason or "not yet valid" in reason:
        cause = "is it to be renewed, or the clock of one machine wrong?"
    elif "mismatch" in reason:
        cause = "is it another server's, or the server named otherwise here than there?"
    else:
        cause = f"is {option} the CA that signed it?"
    return Refused(f"the certificate of {who} is not to be trusted ({reason}): {cause}")
