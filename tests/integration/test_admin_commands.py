"""Laws of an operator's commands: once per command id, audited, fencing, and without a change of
the conservation gap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from services.runtime.admin.commands import (
    AdminCommands,
    AdminQueries,
    CommandResult,
    DeadLetterSelection,
    OperatorCommand,
)
from services.runtime.admin.refusals import (
    CommandReused,
    DeadLetterStateRefused,
    DeadLetterUnknown,
    LaneOffsetRefused,
    LaneUnknown,
    NothingToAccept,
    TopicUnknown,
)
from services.runtime.errors import StublineError
from services.runtime.kafka.topics import PartitionOffsets
from services.runtime.postgres import connection as database
from services.runtime.records import TIMER, LaneKey
from tests.support.sessions import waiting_sessions

GROUP = "toy.group"
LANE = LaneKey("toy.in.v1", 0)
LANES = """
insert into runtime.lanes (
    consumer_group, topic, partition, topic_id, epoch, next_offset, outbox, first_offset,
    gaps, effects, dead, stopped_code, stopped_at
) values
    ('toy.group', 'toy.in.v1', 0, 'old', 7, 100, 'outputs', 10, 5, 80, 5,
        'lane-offset-out-of-range', now()),
    ('toy.group', 'toy.in.v1', 1, 'old', 3, 20, null, 0, 0, 20, 0, null, null),
    ('toy.group', '@timer', 0, '', 4, 55, null, 0, 0, 55, 0, 'lane-output-refused', now()),
    ('other.group', 'toy.in.v1', 0, 'old', 1, 9, null, 0, 0, 9, 0, null, null)
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection[TupleRow]]:
    with database.connect(database_url, name="law") as opened:
        opened.execute(LANES.encode())
        yield opened


@pytest.fixture
def commands(connection: Connection[TupleRow]) -> AdminCommands:
    return fresh(connection)


def fresh(connection: Connection[TupleRow], command_id: UUID | None = None) -> AdminCommands:
    return AdminCommands(connection, OperatorCommand("ada", command_id or uuid4()))


def lane(
    connection: Connection[TupleRow], key: LaneKey = LANE, group: str = GROUP
) -> dict[str, Any]:
    return next(
        row
        for row in AdminQueries(connection).lanes(group)
        if (row["topic"], row["partition"]) == key
    )


def audits(connection: Connection[TupleRow]) -> list[dict[str, Any]]:
    return AdminQueries(connection).audit(100)


def add_dead_letter(
    connection: Connection[TupleRow],
    state: str = "open",
    *,
    code: str = "toy-broken",
    group: str = GROUP,
) -> UUID:
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(
            """
        insert into runtime.dead_letters (consumer_group, topic, topic_id, partition, "offset",
            value, value_sha256, headers, stage, code, text, code_version, state, reason)
        values (%(group)s, 'toy.in.v1', 'old', 0, (select count(*) from runtime.dead_letters),
            %(value)s, %(hash)s, '', 'handle', %(code)s, 'it broke', '1',
            %(state)s, case when %(state)s = 'discarded' then 'useless' end)
        returning id
        """,
            {
                "group": group,
                "code": code,
                "state": state,
                "value": b"x",
                "hash": hashlib.sha256(b"x").digest(),
            },
        )
        .fetchone()
    )
    assert row is not None
    return UUID(str(row["id"]))


def states(connection: Connection[TupleRow]) -> dict[UUID, str]:
    return dict(connection.execute("select id, state from runtime.dead_letters").fetchall())


def test_a_rewind_fences_the_owner_and_keeps_every_other_word_of_the_row(
    connection: Connection[TupleRow], commands: AdminCommands
) -> None:
    before = lane(connection)
    commands.rewind(GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200))
    after = lane(connection)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "epoch",
        "next_offset",
        "rewound",
        "stopped_code",
        "stopped_at",
        "updated_at",
    }
    assert (after["epoch"], after["next_offset"], after["rewound"], after["stopped_code"]) == (
        8,
        40,
        60,
        None,
    )
    assert after["conservation_gap"] == before["conservation_gap"] == 0
    assert lane(connection, group="other.group")["epoch"] == 1


def test_a_rewind_to_where_the_lane_is_only_starts_it_again(
    connection: Connection[TupleRow],
) -> None:
    fresh(connection).rewind(GROUP, LANE, to=100, offsets=None)
    fresh(connection).rewind(GROUP, TIMER, to=55, offsets=None)
    for key, epoch, offset in ((LANE, 8, 100), (TIMER, 5, 55)):
        row = lane(connection, key)
        assert (row["epoch"], row["next_offset"], row["rewound"], row["stopped_code"]) == (
            epoch,
            offset,
            0,
            None,
        )


@pytest.mark.parametrize(
    ("key", "to", "offsets", "refusal"),
    [
        (LANE, 29, PartitionOffsets(30, 200), LaneOffsetRefused),  # retention took it
        (LANE, 101, PartitionOffsets(30, 200), LaneOffsetRefused),  # that is a skip
        (LANE, 60, PartitionOffsets(0, 50), LaneOffsetRefused),  # the log was cut
        (LANE, 40, None, TopicUnknown),
        (TIMER, 54, None, LaneOffsetRefused),
        (LaneKey("toy.in.v1", 9), 0, PartitionOffsets(0, 10), LaneUnknown),
    ],
)
def test_a_rewind_that_makes_no_sense_changes_nothing(
    key: LaneKey,
    to: int,
    offsets: PartitionOffsets | None,
    refusal: type[StublineError],
    connection: Connection[TupleRow],
    commands: AdminCommands,
) -> None:
    before = AdminQueries(connection).lanes()
    with pytest.raises(refusal):
        commands.rewind(GROUP, key, to=to, offsets=offsets)
    assert AdminQueries(connection).lanes() == before
    assert audits(connection) == []


@pytest.mark.parametrize(("to", "lands"), [(None, 130), (150, 150), (200, 200)])
def test_a_skip_counts_what_it_leaves_out(
    to: int | None, lands: int, connection: Connection[TupleRow], commands: AdminCommands
) -> None:
    done = commands.skip(
        GROUP, LANE, to=to, offsets=PartitionOffsets(130, 200), reason="retention took them"
    )
    row = lane(connection)
    assert (row["epoch"], row["next_offset"], row["gaps"], row["conservation_gap"]) == (
        8,
        lands,
        5 + lands - 100,
        0,
    )
    assert (row["stopped_code"], row["outbox_bytes"]) == (None, 7)
    assert done.details["lanes"] == [
        {"partition": 0, "from": 100, "to": lands, "stopped": "lane-offset-out-of-range"}
    ]
    assert audits(connection)[0]["details"]["result"]["reason"] == "retention took them"


@pytest.mark.parametrize(
    ("to", "offsets"),
    [
        (99, PartitionOffsets(0, 200)),
        (201, PartitionOffsets(0, 200)),
        (None, PartitionOffsets(0, 200)),
    ],
)
def test_a_skip_never_goes_back_nor_beyond_the_end(
    to: int | None, offsets: PartitionOffsets, commands: AdminCommands
) -> None:
    with pytest.raises(LaneOffsetRefused):
        commands.skip(GROUP, LANE, to=to, offsets=offsets, reason="why")


def test_a_topic_that_was_made_again_begins_at_its_first_record(
    connection: Connection[TupleRow], commands: AdminCommands
) -> None:
    """One lane was ahead of the new topic's first record, the other below it: both are accounted
    for.
    """
    commands.accept_topic(
        GROUP, LANE.topic, "new", {0: PartitionOffsets(0, 4), 1: PartitionOffsets(35, 40)}
    )
    rows = [lane(connection, LaneKey(LANE.topic, number)) for number in (0, 1)]
    assert [(row["topic_id"], row["next_offset"], row["rewound"], row["gaps"]) for row in rows] == [
        ("new", 0, 100, 5),
        ("new", 35, 0, 15),
    ]
    assert [row["conservation_gap"] for row in rows] == [0, 0]
    assert (
        lane(connection, group="other.group")["topic_id"] == "old"
    )  # each group decides for itself
    with pytest.raises(NothingToAccept):
        fresh(connection).accept_topic(GROUP, LANE.topic, "new", {0: PartitionOffsets(0, 4)})


def test_a_command_that_is_sent_again_changes_nothing(connection: Connection[TupleRow]) -> None:
    command_id = uuid4()
    first = fresh(connection, command_id).rewind(
        GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200)
    )
    before = lane(connection)
    repeated = fresh(connection, command_id).rewind(
        GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200)
    )
    assert (first.already, repeated.already) == (False, True)
    assert repeated.details == first.details
    assert lane(connection) == before
    assert [row["actor"] for row in audits(connection)] == ["ada"]


def test_a_command_that_is_sent_five_times_at_once_is_done_once(
    connection: Connection[TupleRow], database_url: str
) -> None:
    command_id = uuid4()

    def send(_: int) -> CommandResult:
        with database.connect(database_url, name="law", lock_ms=20_000) as own:
            return fresh(own, command_id).restored()

    with ThreadPoolExecutor(5) as pool:
        with psycopg.connect(database_url) as blocker:
            blocker.execute("select * from runtime.generation for update")
            sent = [pool.submit(send, number) for number in range(5)]
            while waiting_sessions(connection) < 5:  # so that none has seen another's audit row
                assert not any(done.done() for done in sent)
        answers = [done.result() for done in sent]
    assert sum(not done.already for done in answers) == 1
    assert {done.details["generation"] for done in answers} == {2}
    assert len(audits(connection)) == 1


def test_a_command_id_is_for_one_command(connection: Connection[TupleRow]) -> None:
    command_id = uuid4()
    fresh(connection, command_id).rewind(GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200))
    with pytest.raises(CommandReused, match="lanes rewind"):
        fresh(connection, command_id).rewind(GROUP, LANE, to=41, offsets=PartitionOffsets(30, 200))
    with pytest.raises(CommandReused):
        fresh(connection, command_id).restored()
    assert lane(connection)["next_offset"] == 40


def test_a_command_that_dies_before_its_commit_was_never_sent(
    connection: Connection[TupleRow],
) -> None:
    command_id = uuid4()

    def send_and_die() -> None:
        with connection.transaction():
            fresh(connection, command_id).rewind(
                GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200)
            )
            raise psycopg.Rollback

    send_and_die()
    assert audits(connection) == []
    assert (
        not fresh(connection, command_id)
        .rewind(GROUP, LANE, to=40, offsets=PartitionOffsets(30, 200))
        .already
    )


def test_controls_are_set_and_keep_what_was_not_named(connection: Connection[TupleRow]) -> None:
    fresh(connection).control(GROUP, paused=False, rate=50, reason=None)
    fresh(connection).control(GROUP, paused=True, rate=None, reason="lunch")
    row = AdminQueries(connection).controls()[0]
    assert (row["paused"], row["rate_limit_per_s"], row["reason"], row["actor"]) == (
        True,
        50,
        "lunch",
        "ada",
    )
    fresh(connection).control(GROUP, paused=False, rate=0, reason=None)
    row = AdminQueries(connection).controls()[0]
    assert (row["paused"], row["rate_limit_per_s"], row["reason"]) == (False, None, None)


@pytest.mark.parametrize(
    ("state", "replayable", "discardable"),
    [
        ("open", True, True),
        ("requested", False, True),
        ("replayed", True, True),
        ("resolved", False, False),
        ("discarded", False, True),
    ],
)
def test_a_dead_letters_state_decides_what_may_be_done(
    state: str,
    replayable: bool,
    discardable: bool,
    connection: Connection[TupleRow],
) -> None:
    def discard(commands: AdminCommands, choice: DeadLetterSelection) -> CommandResult:
        return commands.discard(choice, "useless")

    for allowed, act, becomes in (
        (replayable, AdminCommands.replay, "requested"),
        (discardable, discard, "discarded"),
    ):
        dead_letter = add_dead_letter(connection, state)
        if allowed:
            act(fresh(connection), DeadLetterSelection(ids=[dead_letter]))
            assert states(connection)[dead_letter] == becomes
        else:
            with pytest.raises(DeadLetterStateRefused, match=f"{dead_letter} is {state}"):
                act(fresh(connection), DeadLetterSelection(ids=[dead_letter]))
            assert states(connection)[dead_letter] == state


def test_of_dead_letters_named_by_id_all_are_changed_or_none(
    connection: Connection[TupleRow],
) -> None:
    one, resolved = add_dead_letter(connection), add_dead_letter(connection, "resolved")
    with pytest.raises(DeadLetterStateRefused):
        fresh(connection).replay(DeadLetterSelection(ids=[one, resolved]))
    with pytest.raises(DeadLetterUnknown):
        fresh(connection).replay(DeadLetterSelection(ids=[one, uuid4()]))
    assert states(connection)[one] == "open"


def test_dead_letters_are_selected_by_what_they_have_in_common_oldest_first(
    connection: Connection[TupleRow],
) -> None:
    mine = [add_dead_letter(connection) for _ in range(3)]
    others = [
        add_dead_letter(connection, code="toy-other"),
        add_dead_letter(connection, group="other.group"),
        add_dead_letter(connection, "replayed"),
        add_dead_letter(connection, "resolved"),
    ]
    before = states(connection)
    done = fresh(connection).replay(DeadLetterSelection(group=GROUP, code="toy-broken", limit=2))
    assert done.details["dead_letters"] == [str(dead_letter) for dead_letter in mine[:2]]
    after = states(connection)
    assert {
        dead_letter for dead_letter in after if after[dead_letter] != before[dead_letter]
    } == set(mine[:2])
    assert all(after[dead_letter] == before[dead_letter] for dead_letter in others)


def test_a_discarded_dead_letter_keeps_actor_and_reason(connection: Connection[TupleRow]) -> None:
    dead_letter = add_dead_letter(connection)
    fresh(connection).discard(DeadLetterSelection(ids=[dead_letter]), "a test order")
    row = AdminQueries(connection).dead_letter(dead_letter)
    assert (row["state"], row["reason"], row["actor"]) == ("discarded", "a test order", "ada")
    assert row["value"] == b"x"
    assert audits(connection)[0]["details"]["arguments"]["reason"] == "a test order"
