"""The laws of the whole: what must be true of tables, topics and mailbox, whatever happened to the
services.

Each law yields the ways in which it is broken. What holds of lanes alone is left to the laws of the
toy (tests/protocol/laws).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from schemas.envelope import Snapshot
from schemas.orders import DeliveriesChanged, OrderDecided, OrderObserved, TicketsChanged
from schemas.topics import GROUPS, all_topics
from services.runtime.records import LaneKey, Record, unpack_headers
from tests.protocol.laws import lane_laws
from tests.protocol.laws.kafka_reader import DEAD_LETTERS, LANES
from tests.protocol.laws.system_state import DeadLetterFacts, LaneFacts, SystemState
from tests.protocol.toy.names import Names
from tests.support.logs import read_logs
from tests.support.stubline import Stubline

UNEXPLAINED = """
    select order_id, line_id from approval.orders,
        jsonb_to_recordset(decision::jsonb -> 'lines') as line (line_id text, quantity int)
    where state = 'released' and quantity <>
        (select count(*) from issuer.tickets
         where tickets.order_id = orders.order_id and tickets.line_id = line.line_id
            and (status = 'Active' or reason is not null))
        and not exists (select from issuer.waiting_lines as waiting
                        where waiting.order_id = orders.order_id and waiting.line_id = line.line_id)
"""
ORPHANS = """
    select ticket_id, order_id from issuer.tickets
    where status = 'Active'
        and order_id not in (select order_id from approval.orders where state = 'released')
"""
REPEATED = """
    select campaign_id, number, count(*) from issuer.tickets where number is not null
    group by campaign_id, number having count(*) > 1
"""
WRONGLY_CREATED = """
    select ticket_id, order_id, jobs from issuer.tickets cross join lateral (
        select count(*) as jobs from delivery.job_tickets join delivery.jobs using (job_id)
        where job_tickets.ticket_id = tickets.ticket_id and jobs.kind = 'initial') as initial
    where status = 'Active' and jobs <> 1
"""
# Dead letters of records that no test made unreadable: those have a NUL in the key, the word in the
# value, or a trap that raised.
UNEXPECTED_DEAD_LETTERS = """
    select consumer_group, topic, code, text from runtime.dead_letters
    where value is not null and position('\\x00'::bytea in coalesce(key, '')) = 0
        and position('poison'::bytea in value) = 0 and text not like '%%as the test requested%%'
"""
JOBS = "select job_id::text, state, mails, unknown_attempts from delivery.jobs"
# Where a reader's copy of its writer's last snapshot is not that snapshot.
FOLDS = {
    "approval of ingest": """
        select order_id, writer.generation, writer.sequence,
            reader.observed_generation, reader.observed_sequence
        from ingest.orders as writer full join approval.orders as reader using (order_id)
        where (writer.generation, writer.sequence)
            is distinct from (reader.observed_generation, reader.observed_sequence)
    """,
    "issuer of approval": """
        select order_id, writer.state, writer.sequence, reader.decided_sequence
        from approval.orders as writer full join issuer.orders as reader using (order_id)
        where (
            writer.generation, writer.sequence, writer.state, writer.decision::jsonb -> 'lines'
        ) is distinct from (
            reader.decided_generation, reader.decided_sequence,
            reader.decision::jsonb ->> 'state', reader.decision::jsonb -> 'lines'
        )
    """,
    "delivery of approval": """
        select order_id, writer.state, writer.sequence, reader.decision, reader.decision_sequence
        from approval.orders as writer full join delivery.orders as reader using (order_id)
        where (writer.generation, writer.sequence, writer.state) is distinct from
            (reader.decision_generation, reader.decision_sequence, reader.decision)
    """,
    "delivery of issuer": """
        select order_id, writer.sequence, reader.tickets_sequence
        from issuer.orders as writer full join delivery.orders as reader using (order_id)
        where (writer.generation, writer.sequence)
                is distinct from (reader.tickets_generation, reader.tickets_sequence)
            or array(
                select ticket_id::text || status from issuer.tickets
                where tickets.order_id = writer.order_id and number is not null order by 1
            ) is distinct from array(
                select (ticket ->> 'ticket_id') || (ticket ->> 'status')
                from jsonb_array_elements(reader.tickets::jsonb -> 'tickets') as ticket order by 1
            )
    """,
}
WRITERS: Mapping[type[Snapshot], str] = {
    OrderObserved: "ingest",
    OrderDecided: "approval",
    TicketsChanged: "issuer",
    DeliveriesChanged: "delivery",
}


class StublineNames(Names):
    """The four services as the stages of the laws of lanes."""

    @property
    @override
    def groups(self) -> dict[str, str]:
        return {group.service: group.name for group in GROUPS}

    @property
    @override
    def own_inputs(self) -> dict[str, tuple[str, ...]]:
        return {group.service: group.topics for group in GROUPS}


NAMES = StublineNames("stubline")


@dataclass(frozen=True)
class PipelineState:
    """What a pipeline leaves once nothing moves: its rows, records and mails."""

    stubline: Stubline
    lanes: SystemState
    skipped_offsets: int  # offsets that were stepped over on purpose

    def rows(self, statement: str) -> list[dict[str, Any]]:
        return self.stubline.rows(statement)


def state_of(
    stubline: Stubline, incomplete_topics: Collection[str] = (), skipped_offsets: int = 0
) -> PipelineState:
    """Read it. `incomplete_topics` are the topics whose log no longer holds everything."""
    groups = list(NAMES.groups.values())
    lanes = stubline.rows(LANES.replace("%s", "%(groups)s"), groups=groups)
    dead_letters = stubline.rows(DEAD_LETTERS.replace("%s", "%(groups)s"), groups=groups)
    state = SystemState(
        names=NAMES,
        sent=(),
        logs=read_logs(stubline.store.bootstrap_servers, [topic.name for topic in all_topics()]),
        lanes=[
            LaneFacts(lane=LaneKey(row.pop("topic"), row.pop("partition")), **row) for row in lanes
        ],
        dead_letters=[
            DeadLetterFacts(**row | {"headers": unpack_headers(row["headers"])})
            for row in dead_letters
        ],
        inputs={},
        firsts={},
        snapshots=(),
        seconds={},
        incomplete_topics=frozenset(incomplete_topics),
    )
    return PipelineState(stubline, state, skipped_offsets)


def check(
    stubline: Stubline, incomplete_topics: Collection[str] = (), skipped_offsets: int = 0
) -> None:
    """Check all laws over all that this pipeline ever did. A failure names each broken one, with
    its first cases.
    """
    pipeline = state_of(stubline, incomplete_topics, skipped_offsets)
    if broken := {name: cases for name, law in LAWS.items() if (cases := list(law(pipeline)))}:
        lines = [
            f"{name} ({len(cases)}):\n    " + "\n    ".join(cases[:8])
            for name, cases in broken.items()
        ]
        raise AssertionError("broken laws\n" + "\n".join(lines))


def no_number_is_given_twice(pipeline: PipelineState) -> Iterator[str]:
    yield from map(str, pipeline.rows(REPEATED))


def no_paid_line_is_without_its_tickets_or_a_stated_reason(
    pipeline: PipelineState,
) -> Iterator[str]:
    yield from map(str, pipeline.rows(UNEXPLAINED))


def no_ticket_is_active_without_its_trigger(pipeline: PipelineState) -> Iterator[str]:
    yield from map(str, pipeline.rows(ORPHANS))


def each_active_ticket_is_in_one_initial_job(pipeline: PipelineState) -> Iterator[str]:
    yield from map(str, pipeline.rows(WRONGLY_CREATED))


def each_job_has_one_mail(pipeline: PipelineState) -> Iterator[str]:
    """A repeat has the same Message-ID, and the job's row counts that there may be one."""
    mails = Counter(
        name.strip("<>").partition("@")[0]
        for names in pipeline.stubline.sent().values()
        for name in names
    )
    for job in pipeline.rows(JOBS):
        copies = mails.pop(job["job_id"], 0)
        if not min(job["mails"], 1) <= copies <= job["mails"] + job["unknown_attempts"]:
            yield f"{job} has {copies} mails"
    yield from (f"{count} mails of no job: {name}" for name, count in mails.items())


def each_reader_is_the_fold_of_what_was_committed(pipeline: PipelineState) -> Iterator[str]:
    """Checked of it: state, active tickets, last sequence."""
    for name, statement in FOLDS.items():
        yield from (f"{name}: {row}" for row in pipeline.rows(statement))


def what_was_committed_is_in_the_log(pipeline: PipelineState) -> Iterator[str]:
    """The log has all sequences of each order and writer, from the first to its row's; copies of
    one are the same bytes.
    """
    for kind, schema in WRITERS.items():
        published: dict[str, dict[int, bytes]] = defaultdict(dict)
        for record in pipeline.lanes.log_of(kind.topic):
            if record.header("ce_source") != f"/stubline/{schema}".encode() or b"\0" in (
                record.key or b""
            ):
                continue  # what a test wrote there
            place, value = json.loads(record.value or b""), record.value or b""
            if published[place["key"]].setdefault(place["sequence"], value) != value:
                yield f"{schema} has two contents of {place['key']} {place['sequence']}"
        rows = {
            row["order_id"]: row["sequence"]
            for row in pipeline.rows(f"select order_id, sequence from {schema}.orders")
        }
        for order_id in rows.keys() | published.keys():
            places, last = sorted(published.get(order_id, ())), rows.get(order_id, 0)
            if places != list(range(1, last + 1)) and (
                kind.topic not in pipeline.lanes.incomplete_topics or places[-1:] > [last]
            ):
                yield f"{schema} is at {last} with {order_id}, the log has {places}"


def dead_letters_are_the_source_byte_for_byte(pipeline: PipelineState) -> Iterator[str]:
    """The row, and its copies in the dead topic."""
    records = {
        (record.topic, record.partition, record.offset): record
        for log in pipeline.lanes.logs.values()
        for record in log
    }
    for dead_letter in pipeline.lanes.dead_letters:
        source = records.get((dead_letter.topic, dead_letter.partition, dead_letter.offset))
        if source is None:
            if (
                dead_letter.topic
                in {lane.topic for lane in pipeline.lanes.logs} - pipeline.lanes.incomplete_topics
            ):
                yield f"{dead_letter} has no record"
        elif (dead_letter.key, dead_letter.value, list(dead_letter.headers)) != (
            source.key,
            source.value,
            list(source.headers),
        ):
            yield f"{dead_letter} is not {source}"
    for stage in NAMES.groups:
        yield from lane_laws._copies(pipeline.lanes, stage)


def no_record_is_dead_lettered_for_what_a_server_did(pipeline: PipelineState) -> Iterator[str]:
    yield from map(str, pipeline.rows(UNEXPECTED_DEAD_LETTERS))


def conservation_reads_zero(pipeline: PipelineState) -> Iterator[str]:
    """By the rows, and by a count of the log itself."""
    yield from lane_laws.conservation_reads_zero(pipeline.lanes)
    yield from lane_laws.every_record_has_one_outcome(pipeline.lanes)
    if (gaps := sum(lane.gaps for lane in pipeline.lanes.lanes)) != pipeline.skipped_offsets:
        yield f"{gaps} offsets were stepped over, and should be {pipeline.skipped_offsets}"


def what_is_replayed_is_the_source_byte_for_byte(pipeline: PipelineState) -> Iterator[str]:
    yield from lane_laws.what_is_replayed_is_the_source_byte_for_byte(pipeline.lanes)


def nothing_waits_or_is_stopped(pipeline: PipelineState) -> Iterator[str]:
    yield from (
        f"{row.group} {row.lane}: {row.stopped_code}"
        for row in pipeline.lanes.lanes
        if row.stopped_code
    )
    yield from (
        f"{dead_letter} is on its way"
        for dead_letter in pipeline.lanes.dead_letters
        if dead_letter.state in {"requested", "replayed"}
    )
    for row in pipeline.lanes.lanes:
        log: Sequence[Record] = pipeline.lanes.logs.get(row.lane, ())
        if log and row.next_offset <= log[-1].offset:
            end = log[-1].offset
            yield f"{row.group} {row.lane} is at {row.next_offset}, its log ends with {end}"


LAWS: Mapping[str, Callable[[PipelineState], Iterator[str]]] = {
    law.__name__.replace("_", " "): law
    for law in (
        nothing_waits_or_is_stopped,
        no_number_is_given_twice,
        no_paid_line_is_without_its_tickets_or_a_stated_reason,
        no_ticket_is_active_without_its_trigger,
        each_active_ticket_is_in_one_initial_job,
        each_job_has_one_mail,
        each_reader_is_the_fold_of_what_was_committed,
        what_was_committed_is_in_the_log,
        conservation_reads_zero,
        no_record_is_dead_lettered_for_what_a_server_did,
        dead_letters_are_the_source_byte_for_byte,
        what_is_replayed_is_the_source_byte_for_byte,
    )
}
