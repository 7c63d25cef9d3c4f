"""`pathcast dlq` on a real broker: list, show, and put back once."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import bus_feed
import pytest
from dlq_rig import Killed, committed, mortal, run, told

from stream.commands.dlq import dead_letters, requeue
from stream.kafka.producer import Publisher
from stream.kafka.records.encoded_batches import Answers
from stream.wire import Headers, Outgoing, Record, Reject, Topics, dead_letter
from stream.wire.record import FORGET_HEADERS, FORGOTTEN

OLD_MS = 1_490_094_006_000
PARTITIONS = 3
# key, value, own headers, source partition, code
CAME: list[tuple[bytes | None, bytes | None, Headers, int, str]] = [
    (b"a", b'{"entity_id":"a","lat":91}', (("trace", b"\x00\xff"), ("trace", b"")), 0, "lat_out_of_range"),
    (b"b", b"not JSON \xff" + bytes(400), (), 2, "invalid_utf8"),
    (None, None, (("only", b"headers"),), 1, "empty"),
    (b"a", b'{"entity_id":"a","lat":92}', (), 0, "lat_out_of_range"),
    (b"c", None, (), 1, "empty"),
]


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    bus_feed.create_topics(kafka, Topics.of(topic_prefix), partitions=PARTITIONS)
    return Topics.of(topic_prefix)


@pytest.fixture
def letters_there(kafka: str, topics: Topics) -> list[Outgoing]:
    """Dead letters as workers publish them: one twice, as after a crash."""
    made = []
    for offset, (key, value, headers, partition, code) in enumerate(CAME):
        came = Record(topics.pings, partition, 100 + offset, OLD_MS, key, value, headers)
        made.append(dead_letter(topics.dead_letters, came, Reject(code, f"what is wrong: {code}"), version="1"))
    asyncio.run(publish(kafka, [*made, made[0]]))
    return made


async def publish(kafka: str, answers: list[Outgoing]) -> None:
    publisher = Publisher(kafka)
    await publisher.start()
    await publisher.publish(Answers(others=list(enumerate(answers))))
    await publisher.close()


def test_list_counts_by_code_and_age_and_shows_the_newest(
    kafka: str, topics: Topics, letters_there: list[Outgoing]
) -> None:
    listed = told(kafka, topics, "list", "--limit", 2)
    counts = {row["code"]: (row["topic"], row["count"], row["by_age"]) for row in listed["counts"]}
    assert counts == {
        "lat_out_of_range": (topics.pings, 3, {"1 h": 3}),
        "invalid_utf8": (topics.pings, 1, {"1 h": 1}),
        "empty": (topics.pings, 2, {"1 h": 2}),
    }
    assert len(listed["newest"]) == 2
    times = [letter["found_ms"] for letter in listed["newest"]]
    assert times == sorted(times, reverse=True)
    only = told(kafka, topics, "list", "--code", "empty")
    assert [row["code"] for row in only["counts"]] == ["empty"]
    assert {letter["key"] for letter in only["newest"]} == {"c", None}
    table = run(kafka, topics, "list").stdout
    assert "lat_out_of_range" in table
    assert "what is wrong: invalid_utf8" in table


def test_show_gives_key_value_and_all_headers(kafka: str, topics: Topics, letters_there: list[Outgoing]) -> None:
    (place,) = [row["place"] for row in told(kafka, topics, "list", "--code", "invalid_utf8")["newest"]]
    shown = run(kafka, topics, "show", place).stdout
    assert "key      b\n" in shown
    assert "hex 6e 6f 74 20 4a 53 4f 4e 20 ff 00" in shown
    assert "and 154 bytes more" in shown
    assert "header   __pathcast.errors.code: invalid_utf8\n" in shown
    place = told(kafka, topics, "list", "--code", "lat_out_of_range")["newest"][-1]["place"]
    fields = told(kafka, topics, "show", place)
    assert (fields["key"], fields["value"]) == ("a", CAME[0][1].decode())  # type: ignore[union-attr]
    assert fields["headers"][:2] == [{"name": "trace", "value_base64": "AP8="}, {"name": "trace", "value": ""}]


def alone(kafka: str, topics: Topics, *arguments: str, check: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, and then what to `check` in it."""
    options = ["--bootstrap", kafka, "--prefix", topics.prefix]
    program = (
        f"from stream.commands.dlq.cli import app\napp({[*arguments, *options]!r}, standalone_mode=False)\n{check}"
    )
    run = [sys.executable, "-c", program]
    return subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "PLACE"], ["replay", "--dry-run"]])
def test_a_look_at_letters_loads_no_model_and_says_nothing_on_stderr(
    kafka: str, topics: Topics, letters_there: list[Outgoing], arguments: list[str]
) -> None:
    """130 letters once took 3.8 s and 822 MB, for torch; and `show`, which stops at its record, left generators to
    asyncio, which said that one is already running."""
    place = told(kafka, topics, "list")["newest"][0]["place"]
    arguments = [place if one == "PLACE" else one for one in arguments]
    check = "import sys\nassert not {'torch', 'faust', 'pyarrow'} & sys.modules.keys()"
    ran = alone(kafka, topics, *arguments, check=check)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


@pytest.mark.parametrize(("more", "of"), [([], ""), (["--code", "empty"], " with code empty")])
def test_where_there_are_no_letters_a_person_is_told_so_and_a_program_reads_json(
    kafka: str, topics: Topics, more: list[str], of: str
) -> None:
    """It printed the headings of a table, and nothing else."""
    told_ = run(kafka, topics, "list", *more)
    assert (told_.exit_code, told_.stdout) == (0, "")
    assert told_.stderr == f"{topics.dead_letters} at {kafka} has no dead letters{of}\n"
    assert told(kafka, topics, "list", *more) == {"counts": [], "newest": []}


@pytest.mark.parametrize("arguments", [["list"], ["replay", "--dry-run"], ["replay", "--yes"]])
def test_a_code_that_there_is_not_is_bad_usage(
    kafka: str, topics: Topics, letters_there: list[Outgoing], arguments: list[str]
) -> None:
    """A misspelt code once put nothing back, and said so as if all were well."""
    ran = run(kafka, topics, *arguments, "--code", "lat_out_of_rang", "--code", "empty")
    assert ran.exit_code == 2
    said = " ".join(ran.output.replace("│", " ").split())
    assert "there is no code lat_out_of_rang;" in said
    assert f"{topics.dead_letters} has empty, invalid_utf8, lat_out_of_range; also known are bad_entity_id," in said
    assert back(kafka, topics) == []
    assert run(kafka, topics, *arguments, "--code", "too_late").exit_code == 0, "it is known, and no letter has it"


def test_a_code_of_another_release_is_known_where_a_letter_has_it(kafka: str, topics: Topics) -> None:
    came = Record(topics.pings, 0, 100, OLD_MS, b"a", b"x", ())
    asyncio.run(publish(kafka, [dead_letter(topics.dead_letters, came, Reject("of_tomorrow", ""), version="2")]))
    assert told(kafka, topics, "replay", "--code", "of_tomorrow", "--dry-run")["by_code"] == {"of_tomorrow": 1}


STEERS = "\x1b[2J\x9b2J\r\nplace    0:99\u202e"


def test_an_entity_is_not_forgotten_once_more(kafka: str, topics: Topics) -> None:
    """It may have begun anew since."""
    came = Record(topics.pings, 0, 7, 1_700_000_000_000, b"bus-7", None, FORGET_HEADERS)
    letter = dead_letter(topics.dead_letters, came, Reject(FORGOTTEN, "done"), version="1")
    asyncio.run(publish(kafka, [letter]))
    assert told(kafka, topics, "replay", "--yes")["replayed"] == 0
    assert told(kafka, topics, "replay", "--code", FORGOTTEN, "--yes")["replayed"] == 0


def test_what_a_sender_wrote_steers_no_terminal_and_forges_no_line(kafka: str, topics: Topics) -> None:
    steers = STEERS.encode()
    came = Record(topics.pings, 0, 100, OLD_MS, steers, steers, ((STEERS, steers),))
    asyncio.run(publish(kafka, [dead_letter(topics.dead_letters, came, Reject("empty", STEERS), version="1")]))
    (found,) = told(kafka, topics, "list")["newest"]
    assert (found["key"], found["message"]) == (STEERS, STEERS), "to a program it is what it was"
    for arguments in (["list"], ["list", "--json"], ["show", found["place"]], ["show", found["place"], "--json"]):
        shown = run(kafka, topics, *arguments).stdout
        assert all(line.isprintable() for line in shown.split("\n")), arguments
        assert "\nplace    0:99" not in shown


def test_what_is_not_there_or_no_place_is_said_so(kafka: str, topics: Topics, letters_there: list[Outgoing]) -> None:
    with pytest.raises(ValueError, match="there is no dead letter at 0:99"):
        run(kafka, topics, "show", "0:99")
    assert run(kafka, topics, "show", "first").exit_code == 2


def back(kafka: str, topics: Topics) -> list[tuple[bytes | None, bytes | None, Headers, int]]:
    """What lies in the pings topic."""
    return [as_it_came(record) for record in bus_feed.read(kafka, topics.pings)]


def as_it_came(record: Record) -> tuple[bytes | None, bytes | None, Headers, int]:
    return record.key, record.value, record.headers, record.partition


def expected(*places: int) -> list[tuple[bytes | None, bytes | None, Headers, int]]:
    return [CAME[place][:4] for place in places]


def test_each_record_is_put_back_once_as_it_came_where_it_came_from(
    kafka: str, topics: Topics, letters_there: list[Outgoing]
) -> None:
    dry = told(kafka, topics, "replay", "--dry-run")
    assert (dry["replayed"], sum(dry["by_code"].values()), dry["copies"]) == (0, 5, 1)
    assert back(kafka, topics) == []

    assert run(kafka, topics, "replay", stdin="n\n").exit_code == 1
    assert back(kafka, topics) == [], "asked, and told no"

    assert told(kafka, topics, "replay", "--code", "empty", "--yes")["replayed"] == 2
    assert sorted(back(kafka, topics), key=repr) == sorted(expected(2, 4), key=repr)

    asked = run(kafka, topics, "replay", stdin="y\n")
    assert asked.exit_code == 0
    assert "3 put back; 2 were before; 1 copies" in asked.stdout
    found = back(kafka, topics)
    assert sorted(found, key=repr) == sorted(expected(0, 1, 2, 3, 4), key=repr)
    assert [record for record in found if record[0] == b"a"] == expected(0, 3), "in their order"
    assert all(record.timestamp_ms > OLD_MS for record in bus_feed.read(kafka, topics.pings))

    again = told(kafka, topics, "replay", "--yes")
    assert (again["replayed"], again["replayed_before"]) == (0, 6)
    assert len(back(kafka, topics)) == 5
    listed = told(kafka, topics, "list")
    assert all(letter["replayed"] for letter in listed["newest"])


def test_a_letter_written_twice_around_a_replay_is_put_back_once(
    kafka: str, topics: Topics, letters_there: list[Outgoing]
) -> None:
    """A worker dies before its commit; its letter is replayed; the next worker rejects the record once more."""
    assert told(kafka, topics, "replay", "--yes")["replayed"] == 5
    asyncio.run(publish(kafka, letters_there))
    again = told(kafka, topics, "replay", "--yes")
    assert (again["replayed"], again["copies"]) == (0, 5)
    assert len(back(kafka, topics)) == 5


@pytest.mark.parametrize("die_after", range(1, 8))
def test_a_replay_that_dies_anywhere_doubles_nothing_and_the_next_one_completes_it(
    kafka: str, topics: Topics, letters_there: list[Outgoing], monkeypatch: pytest.MonkeyPatch, die_after: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(requeue, "AIOKafkaProducer", mortal(die_after))
        patched.setattr(requeue, "CHUNK", 2)
        with pytest.raises(Killed):
            run(kafka, topics, "replay", "--yes")
    assert told(kafka, topics, "replay", "--yes")["replayed"] <= 5
    assert sorted(put_back(kafka, topics), key=repr) == sorted(expected(0, 1, 2, 3, 4), key=repr)


def put_back(kafka: str, topics: Topics) -> list[tuple[bytes | None, bytes | None, Headers, int]]:
    """What lies in the pings topic, without transactions that were aborted."""
    return [as_it_came(record) for record in asyncio.run(committed(kafka, topics.pings))]


def test_a_second_replay_ends_the_first_and_nothing_is_doubled(
    kafka: str, topics: Topics, letters_there: list[Outgoing]
) -> None:
    async def both() -> None:
        box = await dead_letters.Box.open(kafka, topics.dead_letters)
        async with requeue.transactional(box) as first:
            todo = [letter async for letter in box.letters()][:2]
            made = await requeue.put_back(box, [])
            assert len(made.todo) == 5
            await requeue._send(first, box.topic, todo[0].code, todo, {})

    with pytest.raises(RuntimeError, match="another replay of this topic has started"):
        asyncio.run(both())
    assert len(put_back(kafka, topics)) == 5


def test_a_letter_larger_than_its_topic_takes_is_left_out_and_the_others_are_put_back(
    kafka: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record came compressed. It once made the broker refuse the transaction, and so all letters of its code."""
    # Of a value, to the byte: Kafka's default without the batch's head, the record's length, its value's, and 6 others.
    most = 1_048_588 - 61 - 3 - 3 - 6
    values = [b"{", bytes(most), bytes(most + 1), b"["]
    came = [Record(topics.pings, 0, 100 + n, OLD_MS, b"a", value, ()) for n, value in enumerate(values)]
    reject = Reject("invalid_json", "not JSON")
    asyncio.run(publish(kafka, [dead_letter(topics.dead_letters, record, reject, version="1") for record in came]))
    listed = told(kafka, topics, "list")["newest"]
    (place,) = [letter["place"] for letter in listed if letter["source"]["offset"] == 102]

    with monkeypatch.context() as patched:  # as by a user who may not see the topic's settings
        patched.setattr(requeue.admin, "largest_batches", lambda *_: {})
        with pytest.raises(ValueError, match=f"does not take the letter at {place}, which is too large"):
            run(kafka, topics, "replay", "--yes")
        assert put_back(kafka, topics) == []

    said = run(kafka, topics, "replay", stdin="y\n")
    assert "3 put back; 0 were before" in said.stdout
    assert f"left out, larger than max.message.bytes of their topic: {place} (1,048,589 bytes)" in said.stdout
    assert [value for _, value, *_ in put_back(kafka, topics)] == [values[n] for n in (0, 1, 3)]
    again = told(kafka, topics, "replay", "--yes")
    assert (again["replayed"], again["replayed_before"], again["too_large"]) == (0, 3, [place])
    assert len(put_back(kafka, topics)) == 3


def test_letters_of_a_partition_that_is_gone_stop_a_replay_before_it_begins(kafka: str, topics: Topics) -> None:
    came = [Record(topics.pings, number, 7, OLD_MS, b"a", b"x", ()) for number in (0, PARTITIONS)]
    reject = Reject("invalid_json", "not JSON")
    asyncio.run(publish(kafka, [dead_letter(topics.dead_letters, record, reject, version="1") for record in came]))
    with pytest.raises(ValueError, match="that topic has 3 partitions now"):
        run(kafka, topics, "replay", "--yes")
    assert back(kafka, topics) == []


def test_messages_that_an_adapter_took_are_listed_and_never_put_back(
    kafka: str, topics: Topics, letters_there: list[Outgoing]
) -> None:
    """They came from no topic: the pings topic would get a webhook's message as it is, and one of them would stand for
    all, as they have the same source."""
    came = Record("http:/webhook/samsara", 0, -1, OLD_MS, None, b'{"data": []}')
    reject = Reject("empty", "no position", stage="adapter")
    made = dead_letter(topics.dead_letters, came, reject, version="1", adapter="samsara")
    asyncio.run(publish(kafka, [made, made, made]))

    listed = told(kafka, topics, "list", "--code", "empty")
    assert {row["topic"]: row["count"] for row in listed["counts"]}["http:/webhook/samsara"] == 3
    assert [letter["adapter"] for letter in listed["newest"]].count("samsara") == 3
    planned = told(kafka, topics, "replay", "--code", "empty", "--dry-run")
    assert (planned["replayed"], planned["by_code"], planned["of_adapters"]) == (0, {"empty": 2}, {"samsara": 3})
    done = told(kafka, topics, "replay", "--code", "empty", "--yes")
    assert done["replayed"] == 2
    assert b'{"data": []}' not in [one.value for one in bus_feed.read(kafka, topics.pings)]
    again = run(kafka, topics, "replay", "--code", "empty", "--yes")
    assert "samsara 3" in again.stdout
    assert "another system" in again.stdout
    after = told(kafka, topics, "list", "--code", "empty")["newest"]
    assert {letter["adapter"]: letter["replayed"] for letter in after} == {"json": True, "samsara": False}
