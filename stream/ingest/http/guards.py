"""Decides who may send messages to a webhook: whoever knows a token, or signs with a secret.

Both come from the environment, or from a file that it names, never from an option, because `ps` shows options to
everybody. Comparisons take constant time, so that the duration of a refusal reveals nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping
from typing import Final, Protocol

from stream.adapters.live.mapping import Signed
from stream.config.environment import INGEST_HMAC, INGEST_TOKEN, OURS
from stream.config.http_access import MIN_TOKEN_CHARS, Address
from stream.config.security import secret
from stream.http.access import Access
from stream.ingest.http.webhooks import Webhook

MIN_SECRET_CHARS: Final = 8  # its owner is the sender's system, which makes longer ones

_PART: Final = re.compile(r"\{([A-Za-z0-9-]+)\}")


class Guard(Protocol):
    """Decides on one request, first by its headers alone, and then by its body."""

    is_open: bool  # it lets everybody send

    def knows(self, headers: Mapping[str, str]) -> bool: ...

    def is_signed(self, headers: Mapping[str, str], body: bytes) -> bool: ...


class Anybody:
    """Lets everybody send: for an address that only this machine reaches."""

    is_open = True

    def knows(self, headers: Mapping[str, str]) -> bool:
        return True

    def is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        return True


class Bearer:
    """Lets those send who know the token: as `Authorization: Bearer TOKEN`, or as the password of Basic."""

    is_open = False

    def __init__(self, token: str) -> None:
        self._access = Access(token)

    def knows(self, headers: Mapping[str, str]) -> bool:
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            return self._access.is_token(_password(credentials.strip()))
        return self._access.knows_bearer(headers)

    def is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        return True


class Hmac:
    """Lets those send whose messages are signed with the secret."""

    is_open = False

    def __init__(self, signed: Signed, secret: str) -> None:
        """Raises ValueError if the secret should be base64 and is not."""
        self._how = signed
        if signed.secret == "base64":
            try:
                self._key = base64.b64decode(secret, validate=True)
            except binascii.Error:
                raise ValueError("the secret is not base64") from None
        else:
            self._key = secret.encode()

    def knows(self, headers: Mapping[str, str]) -> bool:
        return bool(headers.get(self._how.header))

    def is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        given = headers.get(self._how.header, "").strip()
        if not given.startswith(self._how.prefix):
            return False
        digest = hmac.digest(self._key, self._message(headers, body), self._how.hash)
        shown = given.removeprefix(self._how.prefix).encode(errors="surrogateescape")
        if self._how.encoding == "base64":
            return hmac.compare_digest(shown, base64.b64encode(digest))
        return hmac.compare_digest(shown.lower(), digest.hex().encode())

    def _message(self, headers: Mapping[str, str], body: bytes) -> bytes:
        parts, at = [], 0
        for found in _PART.finditer(self._how.message):
            parts.append(self._how.message[at : found.start()].encode())
            name = found[1]
            parts.append(body if name == "body" else headers.get(name, "").encode(errors="surrogateescape"))
            at = found.end()
        return b"".join((*parts, self._how.message[at:].encode()))


def guards_of(webhooks: Mapping[str, Webhook], environment: Mapping[str, str] = os.environ) -> dict[str, Guard]:
    """Returns who may send to each webhook, by path: whoever signs, if its secret is set; else who knows the token.

    Raises ValueError if a secret is too short, cannot be read, or is set for a sender that does not sign.
    """
    token = _secret(INGEST_TOKEN, MIN_TOKEN_CHARS, environment)
    return {path: _make_guard(webhook, token, environment) for path, webhook in webhooks.items()}


def check_closed(guards: Mapping[str, Guard], address: Address) -> None:
    """Raises ValueError, which says what to do, if anybody on a network could send to one of these paths."""
    open_to_all = [path for path, guard in guards.items() if guard.is_open]
    if open_to_all and not address.loopback:
        raise ValueError(
            f"anybody who reaches {address} could send to {', '.join(open_to_all)}: set PATHCAST_INGEST_TOKEN, or the "
            "secret with which the sender signs"
        )


def variable_of(name: str) -> str:
    """Returns the variable with the secret of a webhook's sender, such as PATHCAST_INGEST_HMAC_MOTIVE."""
    return INGEST_HMAC + name.upper().replace("-", "_")


def _make_guard(webhook: Webhook, token: str | None, environment: Mapping[str, str]) -> Guard:
    variable = variable_of(webhook.name)
    key = _secret(variable, MIN_SECRET_CHARS, environment)
    if key is None:
        return Anybody() if token is None else Bearer(token)
    if webhook.signed is None:
        raise ValueError(
            f"{variable} is set, but {webhook.name} says nothing of signatures: its map needs a table signed"
        )
    try:
        return Hmac(webhook.signed, key)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def _secret(variable: str, least: int, environment: Mapping[str, str]) -> str | None:
    found = secret(variable.removeprefix(OURS), environment)
    if found is not None and (len(found) < least or not found.isascii() or not found.isprintable()):
        raise ValueError(f"{variable} is not {least} or more printable ASCII characters")
    return found


def _password(credentials: str) -> str:
    try:
        found = base64.b64decode(credentials.encode(errors="surrogateescape"), validate=True).partition(b":")[2]
    except binascii.Error:
        return ""
    return found.decode(errors="surrogateescape")
