"""Kafka and Redis as they should be run where others can reach them: TLS, users, rights. Tests import this; it tests
nothing itself. What each user may is read from the files that deploy/SECURITY.md names, so that they cannot drift."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import redis
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream.bench.harness.servers import apache_kafka, redis_binary
from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
KAFKA_RIGHTS, REDIS_USERS = DEPLOY / "kafka-rights.yaml", DEPLOY / "redis-users.acl"
MUTE = "mute"  # may all that a worker may, but write forecasts
KAFKA_PASSWORD = "kafka secret, with = and , in it"
REDIS_PASSWORD = "redis/secret#with@all:that%URLs escape"
START_S = 120.0  # a bound on waiting
BRIEF_S = 4.0
KINDS = {
    "Topic": ResourceType.TOPIC,
    "Group": ResourceType.GROUP,
    "TransactionalId": ResourceType.TRANSACTIONAL_ID,
}


class Client(NamedTuple):
    """A certificate of a user's own, and its key."""

    certificate: Path
    key: Path


class Papers(NamedTuple):
    """Files of one certificate authority, and of what it signed for HOST and for a user."""

    ca: Path
    good: Path  # certificate chain and key
    expired: Path
    worker: Client


class Secured(NamedTuple):
    plain: str  # for the test alone: who comes here may do everything
    bootstrap: str
    expired_bootstrap: str  # the same broker, with a certificate that was good yesterday
    brief_bootstrap: str  # and where each connection is closed after BRIEF_S, so that clients have to come back
    mutual_bootstrap: str  # and where clients show a certificate instead of a password
    redis_port: int
    expired_redis_port: int
    ca: Path
    worker: Client
    stranger: Path  # a CA that signed nothing of theirs
    unknown: Client  # what that CA signed, for a user worker

    def redis_admin(self) -> redis.Redis:
        """As whoever set it up."""
        return redis.Redis(HOST, self.redis_port, ssl=True, ssl_ca_certs=str(self.ca), password="admin's")


def papers(folder: Path) -> Papers:
    authority, yesterday = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    folder.mkdir()
    made = Papers(folder / "ca.pem", folder / "good.pem", folder / "expired.pem", _client(authority, folder / "worker"))
    authority.cert_pem.write_to_path(str(made.ca))
    expired = {"not_before": yesterday - timedelta(days=1), "not_after": yesterday}
    for path, leaf in ((made.good, authority.issue_cert(HOST)), (made.expired, authority.issue_cert(HOST, **expired))):
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the one form that Kafka reads
        path.write_bytes(pkcs8 + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return made


def _client(authority: trustme.CA, path: Path) -> Client:
    """Of a user who is named as the file is."""
    made = Client(path.with_suffix(".pem"), path.with_suffix(".key"))
    leaf = authority.issue_cert("a.b", common_name=path.name)
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(made.key))
    return made


@contextmanager
def running(say: Callable[[str], None], folder: Path) -> Iterator[Secured]:
    """Raises Unavailable if there is no Java, no jars of Kafka, or no redis-server on PATH."""
    binary = redis_binary()  # before Kafka, which takes longer to say no
    made, stranger, strangers = papers(folder / "papers"), trustme.CA(), folder / "stranger.pem"
    stranger.cert_pem.write_to_path(str(strangers))
    ports = {name: free_port() for name in ("secure", "expired", "brief", "mutual")}
    files = {"good.pem": made.good, "expired.pem": made.expired, "ca.pem": made.ca}
    more = LISTENERS
    for name, value in {**ports, **files, "brief_ms": int(BRIEF_S * 1000)}.items():
        more = more.replace(f"<{name}>", str(value))
    with (
        apache_kafka(say, more=more) as plain,
        _redis(binary, made.good, made.ca) as redis_port,
        _redis(binary, made.expired, None) as expired_redis_port,
    ):
        listeners = (f"{HOST}:{port}" for port in ports.values())
        known, unknown = made.worker, _client(stranger, folder / "worker")
        yield Secured(plain, *listeners, redis_port, expired_redis_port, made.ca, known, strangers, unknown)


def admit(secured: Secured, prefix: str) -> None:
    """Give Kafka's users their passwords and rights, for one prefix and the group of the same name."""
    admin = KafkaAdminClient(bootstrap_servers=secured.plain)
    acls = list(_kafka_acls(prefix))
    set_passwords(secured, *{acl.principal.removeprefix("User:") for acl in acls})
    made = admin.create_acls(acls)
    assert not made["failed"], made["failed"]
    admin.close()


def set_passwords(secured: Secured, *users: str, password: str = KAFKA_PASSWORD) -> None:
    admin = KafkaAdminClient(bootstrap_servers=secured.plain)
    wanted = [
        UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password=password) for user in sorted(users)
    ]
    refused = {user: why for user, why in admin.alter_user_scram_credentials(wanted).items() if why is not None}
    assert not refused, refused
    admin.close()


def kafka_rights() -> list[tuple[str, str, str, str]]:
    """Each right that operators are told to give: user, kind of resource, its name there, and an operation."""
    found = []
    for user, rights in yaml.safe_load(KAFKA_RIGHTS.read_text()).items():
        for right in rights:
            operation, kind, name = right.split(" ")
            found.append((user, kind, name, operation))
    return found


def _kafka_acls(prefix: str) -> Iterator[ACL]:
    """The rights that SECURITY.md names. And those of MUTE."""
    for user, kind, name, word in kafka_rights():
        how = ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL
        resource = ResourcePattern(KINDS[kind], re.sub("^pathcast", prefix, name.removesuffix("*")), how)
        operation = ACLOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", word).upper()]
        yield ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, resource)
        if user == "worker" and name != "pathcast.forecasts.v1":
            yield ACL(f"User:{MUTE}", "*", operation, ACLPermissionType.ALLOW, resource)


def redis_rules() -> list[tuple[str, str]]:
    """The users of Redis that operators are told to make, each with its rights."""
    return re.findall(r"^user (\w+) on >\S+ (.+)$", REDIS_USERS.read_text(), re.MULTILINE)


@contextmanager
def _redis(binary: Path, certificate: Path, ca: Path | None) -> Iterator[int]:
    """Its TLS port; it has no other. With `ca`, wait until it answers as one that we trust."""
    port, log = free_port(), certificate.with_suffix(".redis.log")
    command = [str(binary), "--port", "0", "--tls-port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    command += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate), "--tls-auth-clients", "no"]
    command += ["--requirepass", "admin's", "--dir", str(certificate.parent)]
    server = Supervised(command, log=log)
    try:
        checks = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(ca)} if ca else {"ssl_cert_reqs": "none"}
        client = redis.Redis(HOST, port, ssl=True, password="admin's", ssl_check_hostname=ca is not None, **checks)
        deadline = time.monotonic() + START_S
        while not _answers(client):
            assert server.running, server.log_tail()
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.02)
        for user, rule in redis_rules():
            client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{REDIS_PASSWORD}", *rule.split())
        client.close()
        yield port
    finally:
        server.stop()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


# Besides the plain listener of PROPERTIES, whose users are superusers here, as the broker's own traffic is.
LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:<secure>,EXPIRED://127.0.0.1:<expired>,BRIEF://127.0.0.1:<brief>,MUTUAL://127.0.0.1:<mutual>
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:<secure>,EXPIRED://127.0.0.1:<expired>,BRIEF://127.0.0.1:<brief>,MUTUAL://127.0.0.1:<mutual>
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,EXPIRED:SASL_SSL,BRIEF:SASL_SSL,MUTUAL:SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.expired.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.brief.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.brief.scram-sha-512.connections.max.reauth.ms=<brief_ms>
ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=<good.pem>
listener.name.expired.ssl.keystore.location=<expired.pem>
listener.name.brief.ssl.keystore.location=<good.pem>
listener.name.mutual.ssl.keystore.location=<good.pem>
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location=<ca.pem>
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=([a-z]+),.*$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
