"""The digests are hashlib's."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import example, given
from hypothesis import strategies as st

from stream.engine.blake2b import BYTES, digests
from stream.kafka.columns import BytesColumn

any_text = st.binary(max_size=40) | st.integers(0, 520).map(lambda size: bytes(n * 7 % 256 for n in range(size)))


@given(st.lists(any_text, max_size=8))
@example([b"x" * size for size in (0, 1, 127, 128, 129, 255, 256, 257)])
@example([b"\xff" * 200, b"short"])  # nothing of a long one is left in the block of the next
def test_they_are_what_hashlib_makes(texts: list[bytes]) -> None:
    found = digests(BytesColumn.of(texts)).each()
    assert found == [blake2b(text, digest_size=BYTES).hexdigest().encode() for text in texts]
