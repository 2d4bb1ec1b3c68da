"""Laws of the command line: exit codes for scripts, JSON for programs, and bytes that cannot act on
a terminal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Producer

from deploy.local.roles import as_role
from schemas.topics import GROUPS, Topic
from services.console import cli
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import pack_headers
from tests.support.cli_output import CliOutput, StublineCommand


@pytest.fixture
def stubline(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
    bootstrap_servers: str,
) -> StublineCommand:
    """Run a command in this process: `migrate` as the owner, all others with the operators' own
    role.
    """
    monkeypatch.setenv("DATABASE_URL", operator := as_role(database_url, "operator"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("STUBLINE_ACTOR", "ada")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> CliOutput:
        given = os.environ["DATABASE_URL"]
        if given == operator and arguments[0] == "migrate":
            monkeypatch.setenv("DATABASE_URL", database_url)
        code = cli.run([str(argument) for argument in arguments])
        monkeypatch.setenv("DATABASE_URL", given)
        return CliOutput(code, *capsys.readouterr())

    return run


@pytest.fixture
def topic(bootstrap_servers: str, prefix: str) -> Topic:
    """With five records in its partition 0."""
    topic = Topic(f"{prefix}.in.v1", "key", "test", partitions=2)
    BrokerAdmin(bootstrap_servers).repair([topic])
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for number in range(5):
        producer.produce(topic.name, str(number).encode(), partition=0)
    assert producer.flush(10) == 0
    return topic


def add_lane(
    database_url: str, topic: str, offset: int, *, topic_id: str = "old", code: str | None = None
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """
            insert into runtime.lanes (consumer_group, topic, partition, topic_id, epoch,
                next_offset, first_offset, effects, stopped_code, stopped_at)
            values ('toy', %(topic)s, 0, %(topic_id)s, 1, %(offset)s, 0, %(offset)s, %(code)s::text,
                case when %(code)s::text is not null then now() end)
            """,
            {"topic": topic, "topic_id": topic_id, "offset": offset, "code": code},
        )


def add_dead_letter(
    database_url: str, value: bytes | None, headers: list[tuple[str, bytes]]
) -> str:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            """
            insert into runtime.dead_letters (consumer_group, topic, topic_id, partition, "offset",
                key, value, value_sha256, headers, stage, code, text, code_version)
            values ('toy', 'toy.in.v1', 'id', 0, 7,
                %(key)s, %(value)s, sha256(coalesce(%(value)s, ''::bytea)), %(headers)s,
                'parse', 'record-unexpected-error', %(text)s, '1')
            returning id
            """,
            {
                "key": b"k\x1b]0;x\x07",
                "value": value,
                "headers": pack_headers(headers),
                "text": "boom [bold]\x1b[2J",
            },
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_help_names_every_command_and_the_exit_codes(stubline: StublineCommand) -> None:
    answer = stubline("--help")
    assert answer.code == 0
    for word in (
        "migrate",
        "lanes",
        "dead",
        "status",
        "pause",
        "resume",
        "restored",
        "topics",
        "78 wrong configuration",
    ):
        assert word in answer.out


def test_a_new_installation_is_well_and_has_every_group(stubline: StublineCommand) -> None:
    answer = stubline("status", "--json")
    assert answer.code == 0
    assert {row["consumer_group"] for row in answer.json} == {group.name for group in GROUPS}


def test_status_shows_lag_and_fails_while_a_lane_is_stopped(
    stubline: StublineCommand, topic: Topic, database_url: str
) -> None:
    add_lane(database_url, topic.name, 2)
    healthy = stubline("status", "--json")
    row = next(row for row in healthy.json if row["consumer_group"] == "toy")
    assert (healthy.code, row["lanes"], row["lag"], row["conservation_gap"]) == (0, 1, 3, 0)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update runtime.lanes set stopped_code = 'lane-topic-recreated', stopped_at = now()"
        )
    assert stubline("status").code == 1
    assert "lane-topic-recreated" in stubline("lanes", "list").out


def test_status_fails_while_records_are_unaccounted_for(
    stubline: StublineCommand, database_url: str, topic: Topic
) -> None:
    add_lane(database_url, topic.name, 2)
    with psycopg.connect(database_url) as connection:
        connection.execute("update runtime.lanes set effects = 1")
    answer = stubline("status", "--json")
    assert (answer.code, next(row for row in answer.json if row["lanes"])["conservation_gap"]) == (
        1,
        1,
    )


def test_a_rewind_and_a_skip_are_checked_against_the_log(
    stubline: StublineCommand, topic: Topic, database_url: str
) -> None:
    add_lane(database_url, topic.name, 3)
    assert stubline("lanes", "rewind", "toy", topic.name, 0, "--to", 1).code == 0
    assert stubline("lanes", "skip", "toy", topic.name, 0, "--to", 6, "--reason", "why").code == 1
    assert stubline("lanes", "skip", "toy", topic.name, 0, "--to", 5, "--reason", "why").code == 0
    assert stubline("lanes", "skip", "toy", topic.name, 0, "--to", 5).code == 2  # without a reason
    row = stubline("lanes", "list", "--group", "toy", "--json").json[0]
    assert (row["next_offset"], row["rewound"], row["gaps"], row["conservation_gap"]) == (
        5,
        2,
        4,
        0,
    )


def test_a_topic_is_accepted_by_the_id_that_it_has(
    stubline: StublineCommand, topic: Topic, database_url: str
) -> None:
    add_lane(database_url, topic.name, 3, code="lane-topic-recreated")
    assert stubline("lanes", "accept-topic", "toy", topic.name).code == 0
    row = stubline("lanes", "list", "--json").json[0]
    assert (row["next_offset"], row["rewound"], row["stopped_code"]) == (0, 3, None)
    assert row["topic_id"] != "old"
    assert stubline("lanes", "accept-topic", "toy", topic.name).code == 1
    assert stubline("lanes", "accept-topic", "toy", "no.such.topic").code == 3


def test_a_pause_names_a_group_that_exists(stubline: StublineCommand) -> None:
    assert stubline("pause", "ingest", "--reason", "lunch").code == 0
    assert stubline("pause", "stubline.issuer").code == 0
    assert stubline("pause", "imgest").code == 3
    rows = {row["consumer_group"]: row for row in stubline("status", "--json").json}
    assert [rows[f"stubline.{name}"]["paused"] for name in ("ingest", "issuer", "delivery")] == [
        True,
        True,
        False,
    ]
    assert rows["stubline.ingest"]["reason"] == "lunch"


def test_the_same_command_again_reports_that_it_was_done(stubline: StublineCommand) -> None:
    command = ("resume", "ingest", "--rate", 100, "--command-id", uuid4(), "--json")
    first, repeated = stubline(*command), stubline(*command)
    assert (first.code, repeated.code) == (0, 0)
    assert (first.json["already_done"], repeated.json["already_done"]) == (False, True)
    assert first.json | {"already_done": True} == repeated.json
    audit = stubline("audit", "--json").json
    assert [(row["actor"], row["what"]) for row in audit] == [("ada", "resume")]


def test_bytes_from_outside_cannot_act_on_the_terminal(
    stubline: StublineCommand, database_url: str
) -> None:
    dead_letter = add_dead_letter(
        database_url,
        b'\x1b[31m{"a": 1}\x00\xff\r\x9b[2J',
        [("h\x1b", b"\x1b[2J"), ("h\x1b", b"twice")],
    )
    for command in (
        ("dead", "list"),
        ("dead", "show", dead_letter),
        ("dead", "show", dead_letter, "--json"),
        ("dead", "list", "--json"),
    ):
        answer = stubline(*command)
        assert answer.code == 0
        assert not {c for c in answer.out if ord(c) < 32 and c not in "\n\t"} | (
            {"\x9b", "\x7f"} & set(answer.out)
        )
    shown = stubline("dead", "show", dead_letter).out
    assert "boom [bold]\\x1b[2J" in shown  # no markup either
    assert shown.count("h\\x1b: ") == 2
    assert "a defect of the release" in shown


def test_a_dead_letters_bytes_can_be_had_as_they_are(
    database_url: str, bootstrap_servers: str
) -> None:
    """By the installed command, since only that has a stdout of bytes."""
    raw = bytes(range(256))
    dead_letter = add_dead_letter(database_url, raw, [])
    servers = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers}
    command = [
        str(Path(sys.executable).with_name("stubline")),
        "dead",
        "show",
        dead_letter,
        "--raw",
    ]
    assert (
        subprocess.run(command, env=os.environ | servers, stdout=subprocess.PIPE, check=True).stdout
        == raw
    )


def test_dead_letters_are_replayed_and_discarded_by_id_or_by_kind(
    stubline: StublineCommand, database_url: str
) -> None:
    dead_letter = add_dead_letter(database_url, None, [])
    assert stubline("dead", "replay").code == 2
    assert stubline("dead", "replay", dead_letter, "--code", "record-unexpected-error").code == 2
    assert stubline("dead", "replay", "--code", "record-unexpected-error", "--json").json[
        "dead_letters"
    ] == [dead_letter]
    assert stubline("dead", "replay", dead_letter).code == 1  # it is requested already
    assert stubline("dead", "list", "--state", "requested", "--json").json[0]["id"] == dead_letter
    assert stubline("dead", "discard", dead_letter, "--reason", " ").code == 2
    assert stubline("dead", "discard", dead_letter, "--reason", "a test").code == 0
    assert stubline("dead", "list", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("dead", "show", str(uuid4())), 3),
        (("dead", "show", "no-id"), 2),
        (("lanes", "rewind", "toy", "t", "0"), 2),
        (("lanes", "rewind", "stubline.ingest", "@timer", "0", "--to", "0"), 3),
        (("nonsense",), 2),
        (("migrate", "--database-only"), 0),
    ],
)
def test_exit_codes_are_as_documented(
    arguments: tuple[str, ...], code: int, stubline: StublineCommand
) -> None:
    assert stubline(*arguments).code == code


def test_an_error_is_printed_on_stderr_with_its_next_step(stubline: StublineCommand) -> None:
    plain, coded = stubline("pause", "nobody"), stubline("pause", "nobody", "--json")
    assert plain.out == coded.out == ""
    assert "group-unknown" in plain.err
    assert "`stubline status` lists the groups" in plain.err
    assert json.loads(coded.err)["error"]["code"] == "group-unknown"


def test_unavailable_servers_and_a_wrong_configuration_have_codes_of_their_own(
    stubline: StublineCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/stubline")
    done = stubline("lanes", "list")
    assert (done.code, "database-unavailable" in done.err) == (4, True)
    monkeypatch.setenv("DATABASE_URL", "")
    assert stubline("lanes", "list").code == 78


def test_a_database_that_was_never_migrated_is_reported(
    stubline: StublineCommand, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("drop schema runtime cascade")
    answer = stubline("status")
    assert (answer.code, "stubline migrate" in answer.err) == (1, True)


def test_topics_check_fails_until_they_are_made(stubline: StublineCommand) -> None:
    assert stubline("migrate").code == 0
    assert stubline("topics", "check").code == 0


@pytest.mark.slow
def test_status_never_reports_success_while_the_broker_is_unavailable(
    stubline: StublineCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    answer = stubline("status", "--json")
    assert (answer.code, {row["lag"] for row in answer.json}) == (4, {None})
    assert json.loads(answer.err)["error"]["code"] == "broker-unavailable"
