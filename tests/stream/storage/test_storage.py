"""A folder, fsspec's memory and a real S3 server keep files in the same way."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.storage import LocalFolder, Storage, UrlFolder, open_storage


@pytest.fixture(params=["folder", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        return open_storage(f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}", "the archive")
    root = str(tmp_path / "root") if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return open_storage(root, "the archive")


def test_of_several_that_create_a_file_one_wins(storage: Storage) -> None:
    won, lost = [], []

    def create(number: int) -> None:
        try:
            storage.create("folder/name", b"%d" % number)
            won.append(number)
        except FileExistsError:
            lost.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert storage.read("folder/name") == b"%d" % won[0]
    assert storage.files("folder") == ["name"]


def test_a_file_is_there_when_it_is_whole_and_never_after_an_error(storage: Storage) -> None:
    def half() -> None:
        with storage.writing("folder/name") as path:
            path.write_bytes(b"half")
            assert "name" not in storage.files("folder")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        half()
    assert storage.files("folder") == []
    with storage.writing("folder/name") as path:
        path.write_bytes(b"whole")
    assert (storage.files("folder"), storage.folders()) == (["name"], ["folder"])
    with storage.open("folder/name") as file:
        assert file.read() == b"whole"
    storage.delete("folder/name")
    storage.delete("folder/name")
    assert storage.files("folder") == storage.files("nothing") == []
    with pytest.raises(FileNotFoundError):
        storage.read("folder/name")
    with pytest.raises(FileNotFoundError):
        storage.open("folder/name")


@pytest.mark.parametrize(("words", "said"), [(["no credentials"], "no credentials"), ([], "RuntimeError")])
def test_an_error_of_a_stores_own_client_is_one_that_the_commands_tell_in_a_line(
    monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    """Without credentials, boto raised one of its own from every request, and `dev archive` ended in a traceback. One
    without words is told by its name."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(*words)

    storage = open_storage("memory://archive", "the archive")
    for request in ("ls", "find", "cat_file", "open", "pipe_file", "put_file", "rm_file"):
        monkeypatch.setattr(f"fsspec.implementations.memory.MemoryFileSystem.{request}", refuse)
    asked: list[Callable[[], object]] = [
        lambda: storage.files(""),
        lambda: storage.folders(),
        lambda: storage.read("name"),
        lambda: storage.open("name"),
        lambda: next(storage.pieces("name")),
        lambda: storage.read_each("folder", re.compile("name"), "", 1),
        lambda: storage.create("name", b""),
        lambda: storage.delete("name"),
    ]
    for ask in asked:
        with pytest.raises(OSError, match=f"the archive memory://archive: {said}"):
            ask()
    with pytest.raises(OSError, match=said), storage.writing("name") as part:
        part.write_bytes(b"")


def test_what_may_be_a_storage(tmp_path: Path) -> None:
    assert isinstance(open_storage(f"file://{tmp_path}", "the archive", to_create=True), LocalFolder)
    assert isinstance(open_storage("memory://x", "the archive", to_create=True), UrlFolder)
    with pytest.raises(ValueError, match="cannot create a file for one of several writers only"):
        open_storage("http://127.0.0.1/x", "the archive", to_create=True)
    with pytest.raises(ValueError, match="nobody://x"):
        open_storage("nobody://x", "the archive")
