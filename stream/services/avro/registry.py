"""Asks a schema registry for the id of a schema, by Confluent's protocol, which other registries speak, too.

Two requests: one registers a schema under a subject, and one looks up the id of a schema that is registered already.
Whether a new version of a schema is compatible with those before it is the registry's to say.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stream.config.security import Refused
from stream.contracts.json_schema import Schema

ANSWER_S: Final = 15.0
CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
MOST_SHOWN: Final = 500  # characters of what a registry says
_INCOMPATIBLE: Final = 409
_INVALID: Final = 422
_NO_ACCESS: Final = (401, 403)
_NOT_FOUND: Final = 404


@dataclass(frozen=True)
class SchemaRegistry:
    """A registry behind a URL, such as http://registry:8081 or http://apicurio:8080/apis/ccompat/v7."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # PEM; None: the CAs that this machine trusts

    def __post_init__(self) -> None:
        scheme, where = urllib.parse.urlsplit(self.url)[:2]
        if scheme not in ("http", "https") or not where:
            raise ValueError(f"the schema registry {self.url!r} is no URL like http://registry:8081")
        if bool(self.user) != bool(self.password):
            raise ValueError("a schema registry's user and password belong together: one of them is missing")

    def register(self, subject: str, schema: Schema) -> int:
        """Returns the id of the schema under this subject, and registers it if it is new.

        Raises ConnectionError if the registry does not answer, Refused if it denies access, ValueError if it takes the
        schema for invalid, or for incompatible with the one before.
        """
        return self._id(f"/subjects/{urllib.parse.quote(subject, safe='')}/versions", subject, schema)

    def look_up(self, subject: str, schema: Schema) -> int:
        """Returns the id of a schema that is registered. Raises as `register`, and ValueError if it is not."""
        return self._id(f"/subjects/{urllib.parse.quote(subject, safe='')}", subject, schema)

    def _id(self, path: str, subject: str, schema: Schema) -> int:
        body = json.dumps({"schemaType": "AVRO", "schema": json.dumps(schema)}).encode()
        found = self._answer(path, body, subject)
        if not isinstance(found, dict) or not isinstance(found.get("id"), int):
            raise ConnectionError(f"{self.url} gave no id for {subject}: is it a schema registry?")
        return int(found["id"])

    def _answer(self, path: str, body: bytes, subject: str) -> Any:
        request = urllib.request.Request(self.url.rstrip("/") + path, body, {"Content-Type": CONTENT_TYPE})
        if self.user is not None:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        try:
            context = ssl.create_default_context(cafile=self.ca) if self.url.startswith("https") else None
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=context) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refusal(error, subject) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ConnectionError(f"no schema registry answers at {self.url} ({reason}): is the URL right?") from error

    def _refusal(self, error: urllib.error.HTTPError, subject: str) -> Exception:
        said = " ".join(error.read(MOST_SHOWN).decode(errors="replace").split()) or error.reason
        if error.code in _NO_ACCESS:
            return Refused(f"the schema registry at {self.url} denies access to {subject}: {said}")
        if error.code == _NOT_FOUND:
            return ValueError(f"the schema registry at {self.url} has no such schema under {subject}: {said}")
        if error.code in (_INCOMPATIBLE, _INVALID):
            return ValueError(f"the schema registry at {self.url} refuses the schema of {subject}: {said}")
        return ConnectionError(f"the schema registry at {self.url} failed at {subject} with {error.code}: {said}")
