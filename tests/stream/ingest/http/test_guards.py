"""Who may send to a webhook: tokens and signatures, as their owners write them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from multidict import CIMultiDict

from stream.adapters.live.mapping import Signed
from stream.config.http_access import Address
from stream.ingest.http.guards import Anybody, Bearer, Hmac, check_closed, guards_of
from stream.ingest.http.webhooks import webhooks_of

TOKEN = "0123456789abcdef"


def headers(**given: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize(
    ("authorization", "known"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (TOKEN, False),
        ("", False),
        (f"Digest {TOKEN}", False),
        ("Basic " + base64.b64encode(f"jo:{TOKEN}".encode()).decode(), True),
        ("Basic " + base64.b64encode(f"{TOKEN}:jo".encode()).decode(), False),
        ("Basic é", False),
        ("Bearer \udcff", False),
    ],
)
def test_a_token_is_a_bearers_or_the_password_of_basic(authorization: str, known: bool) -> None:
    assert Bearer(TOKEN).knows(headers(Authorization=authorization)) is known


def test_motives_signature_is_hmac_sha1_in_hex_over_the_body() -> None:
    """The example of Motive's page: the body ["fault_code_closed"], its secret, and the digest that these have."""
    webhooks = webhooks_of(["motive"])
    (guard,) = guards_of(webhooks, {"PATHCAST_INGEST_HMAC_MOTIVE": "f04a8386a21a6cba0447024e83b3f0983352bb72"}).values()
    body = b'["fault_code_closed"]'
    digest = hmac.new(b"f04a8386a21a6cba0447024e83b3f0983352bb72", body, hashlib.sha1).hexdigest()
    right = headers(x_kt_webhook_signature=digest)
    assert guard.knows(right)
    assert guard.is_signed(right, body)
    assert guard.is_signed(headers(X_KT_Webhook_Signature=digest.upper()), body)
    assert not guard.is_signed(right, body + b" "), "one byte more"
    assert not guard.is_signed(headers(X_KT_Webhook_Signature=digest[:-1] + "0"), body) or digest.endswith("0")
    assert not guard.is_signed(headers(X_KT_Webhook_Signature="é"), body)
    assert not guard.knows(headers())


def test_samsaras_signature_includes_the_time_and_its_secret_is_base64() -> None:
    key = b"\x00\x01a key of bytes"
    webhooks = webhooks_of(["samsara"])
    (guard,) = guards_of(webhooks, {"PATHCAST_INGEST_HMAC_SAMSARA": base64.b64encode(key).decode()}).values()
    body = b'{"data": []}'
    digest = hmac.new(key, b"v1:1796029450:" + body, hashlib.sha256).hexdigest()
    assert guard.is_signed(headers(X_Samsara_Signature=f"v1={digest}", X_Samsara_Timestamp="1796029450"), body)
    assert not guard.is_signed(headers(X_Samsara_Signature=f"v1={digest}", X_Samsara_Timestamp="1796029451"), body)
    assert not guard.is_signed(headers(X_Samsara_Signature=digest, X_Samsara_Timestamp="1796029450"), body)
    with pytest.raises(ValueError, match="PATHCAST_INGEST_HMAC_SAMSARA: the secret is not base64"):
        guards_of(webhooks, {"PATHCAST_INGEST_HMAC_SAMSARA": "not base 64!"})


def test_a_digest_may_be_base64() -> None:
    guard = Hmac(Signed(header="X-Sign", encoding="base64"), "a secret")
    digest = base64.b64encode(hmac.digest(b"a secret", b"body", "sha256")).decode()
    assert guard.is_signed(headers(X_Sign=digest), b"body")
    assert not guard.is_signed(headers(X_Sign=digest.lower()), b"body")


def test_a_secret_of_the_sender_counts_before_the_token_and_nothing_lets_everybody_in() -> None:
    webhooks = webhooks_of(["motive", "flespi"])
    guards = guards_of(webhooks, {"PATHCAST_INGEST_TOKEN": TOKEN, "PATHCAST_INGEST_HMAC_MOTIVE": "12345678"})
    assert isinstance(guards["/webhook/motive"], Hmac)
    assert isinstance(guards["/webhook/flespi"], Bearer)
    assert all(isinstance(guard, Anybody) and guard.is_open for guard in guards_of(webhooks, {}).values())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_what_lets_everybody_send_is_reached_from_this_machine_alone(host: str) -> None:
    webhooks = webhooks_of(["motive", "flespi"])
    check_closed(guards_of(webhooks, {}), Address("127.0.0.1", 8080))
    check_closed(guards_of(webhooks, {"PATHCAST_INGEST_TOKEN": TOKEN}), Address(host, 8080))
    with pytest.raises(ValueError, match="could send to /webhook/flespi: set PATHCAST_INGEST_TOKEN"):
        check_closed(guards_of(webhooks, {"PATHCAST_INGEST_HMAC_MOTIVE": "12345678"}), Address(host, 8080))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PATHCAST_INGEST_TOKEN": "short"}, "PATHCAST_INGEST_TOKEN is not 16"),
        ({"PATHCAST_INGEST_HMAC_MOTIVE": "short"}, "PATHCAST_INGEST_HMAC_MOTIVE is not 8"),
        ({"PATHCAST_INGEST_HMAC_FLESPI": "0123456789"}, "says nothing of signatures"),
        ({"PATHCAST_INGEST_TOKEN": TOKEN, "PATHCAST_INGEST_TOKEN_FILE": "/x"}, "which one"),
        ({"PATHCAST_INGEST_TOKEN_FILE": "/no/such/file"}, "cannot be read"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_by_its_variable(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        guards_of(webhooks_of(["motive", "flespi"]), environment)
