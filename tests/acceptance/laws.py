"""The laws of the whole: what must be true of tables, topics and mailbox after whatever happened to
any of the services.

Each answers the ways in which it is broken. What holds of lanes alone is asked of the laws of the
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
from services.runtime.loop.dead_letters import unpack_headers
from services.runtime.records import LaneKey, Record
from tests.protocol.laws import lane_laws
from tests.protocol.laws.evidence import DeadLetterFacts, Evidence, LaneFacts
from tests.protocol.laws.kafka_reader import DEAD_LETTERS, LANES
from tests.protocol.toy.names import Names
from tests.support.logs import read_logs
from tests.support.stubline import Stubline

UNEXPLAINED = """
    select order_id, line_id from approval.orders, jsonb_to_recordset(decision::jsonb -> 'lines') as line (line_id text, quantity int)
    where state = 'released' and quantity <>
        (select count(*) from issuer.tickets
         where tickets.order_id = orders.order_id and tickets.line_id = line.line_id and (status = 'Active' or reason is not null))
        and not exists (select from issuer.waiting_lines as waiting
                        where waiting.order_id = orders.order_id and waiting.line_id = line.line_id)
"""
ORPHANS = """
    select ticket_id, order_id from issuer.tickets
    where status = 'Active' and order_id not in (select order_id from approval.orders where state = 'released')
"""
REPEATED = """
    select campaign_id, number, count(*) from issuer.tickets where number is not null
    group by campaign_id, number having count(*) > 1
"""
MISFILED = """
    select ticket_id, order_id, jobs from issuer.tickets cross join lateral (
        select count(*) as jobs from delivery.job_tickets join delivery.jobs using (job_id)
        where job_tickets.ticket_id = tickets.ticket_id and jobs.kind = 'initial') as filed
    where status = 'Active' and jobs <> 1
"""
# Letters for records that no test made unreadable: without a NUL in the key, the word in the value,
# or a trap that raised.
BLAMED = """
    select consumer_group, topic, code, text from runtime.dead_letters
    where value is not null and position('\\x00'::bytea in coalesce(key, '')) = 0 and position('poison'::bytea in value) = 0
        and text not like '%%as the test asked%%'
"""
JOBS = "select job_id::text, state, mails, unknown_attempts from delivery.jobs"
# Writer, reader: what the reader keeps of the writer's last word, where it is not that word.
FOLDS = {
    "approval of ingest": """
        select order_id, told.generation, told.sequence, heard.observed_generation, heard.observed_sequence
        from ingest.orders as told full join approval.orders as heard using (order_id)
        where (told.generation, told.sequence) is distinct from (heard.observed_generation, heard.observed_sequence)
    """,
    "issuer of approval": """
        select order_id, told.state, told.sequence, heard.decided_sequence
        from approval.orders as told full join issuer.orders as heard using (order_id)
        where (told.generation, told.sequence, told.state, told.decision::jsonb -> 'lines') is distinct from
            (heard.decided_generation, heard.decided_sequence, heard.decision::jsonb ->> 'state', heard.decision::jsonb -> 'lines')
    """,
    "delivery of approval": """
        select order_id, told.state, told.sequence, heard.decision, heard.decision_sequence
        from approval.orders as told full join delivery.orders as heard using (order_id)
        where (told.generation, told.sequence, told.state) is distinct from
            (heard.decision_generation, heard.decision_sequence, heard.decision)
    """,
    "delivery of issuer": """
        select order_id, told.sequence, heard.tickets_sequence
        from issuer.orders as told full join delivery.orders as heard using (order_id)
        where (told.generation, told.sequence) is distinct from (heard.tickets_generation, heard.tickets_sequence)
            or array(select ticket_id::text || status from issuer.tickets
                     where tickets.order_id = told.order_id and number is not null order by 1) is distinct from
               array(select (ticket ->> 'ticket_id') || (ticket ->> 'status')
                     from jsonb_array_elements(heard.tickets::jsonb -> 'tickets') as ticket order by 1)
    """,
}
WRITERS: Mapping[type[Snapshot], str] = {
    OrderObserved: "ingest",
    OrderDecided: "approval",
    TicketsChanged: "issuer",
    DeliveriesChanged: "delivery",
}


class StublineNames(Names):
    """The four services, as the laws of lanes ask for stages."""

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
class Whole:
    """What is found of a pipeline at rest."""

    stubline: Stubline
    lanes: Evidence
    holes: int  # offsets that were stepped over on purpose

    def rows(self, statement: str) -> list[dict[str, Any]]:
        return self.stubline.rows(statement)


def found_of(stubline: Stubline, disturbed: Collection[str] = (), holes: int = 0) -> Whole:
    """`disturbed`: topics whose log no longer tells everything."""
    groups = list(NAMES.groups.values())
    lanes = stubline.rows(LANES.replace("%s", "%(groups)s"), groups=groups)
    letters = stubline.rows(DEAD_LETTERS.replace("%s", "%(groups)s"), groups=groups)
    evidence = Evidence(
        names=NAMES,
        sent=(),
        logs=read_logs(stubline.store.bootstrap_servers, [topic.name for topic in all_topics()]),
        lanes=[
            LaneFacts(lane=LaneKey(row.pop("topic"), row.pop("partition")), **row) for row in lanes
        ],
        dead_letters=[
            DeadLetterFacts(**row | {"headers": unpack_headers(row["headers"])}) for row in letters
        ],
        inputs={},
        firsts={},
        snapshots=(),
        seconds={},
        disturbed=frozenset(disturbed),
    )
    return Whole(stubline, evidence, holes)


def check(stubline: Stubline, disturbed: Collection[str] = (), holes: int = 0) -> None:
    """All laws, over all that this pipeline ever did; a failure names each that is broken, with its
    first cases.
    """
    whole = found_of(stubline, disturbed, holes)
    if broken := {name: cases for name, law in LAWS.items() if (cases := list(law(whole)))}:
        lines = [
            f"{name} ({len(cases)}):\n    " + "\n    ".join(cases[:8])
            for name, cases in broken.items()
        ]
        raise AssertionError("broken laws\n" + "\n".join(lines))


def no_number_is_given_twice(whole: Whole) -> Iterator[str]:
    yield from map(str, whole.rows(REPEATED))


def no_paid_line_is_without_its_tickets_or_a_stated_reason(whole: Whole) -> Iterator[str]:
    yield from map(str, whole.rows(UNEXPLAINED))


def no_ticket_is_active_without_its_trigger(whole: Whole) -> Iterator[str]:
    yield from map(str, whole.rows(ORPHANS))


def each_active_ticket_is_in_one_initial_job(whole: Whole) -> Iterator[str]:
    yield from map(str, whole.rows(MISFILED))


def each_job_has_one_mail(whole: Whole) -> Iterator[str]:
    """A repeat has the same Message-ID, and the job knows that there may be one."""
    mails = Counter(
        name.strip("<>").partition("@")[0]
        for names in whole.stubline.sent().values()
        for name in names
    )
    for job in whole.rows(JOBS):
        copies = mails.pop(job["job_id"], 0)
        if not min(job["mails"], 1) <= copies <= job["mails"] + job["unknown_attempts"]:
            yield f"{job} has {copies} mails"
    yield from (f"{count} mails of no job: {name}" for name, count in mails.items())


def each_reader_is_the_fold_of_what_was_committed(whole: Whole) -> Iterator[str]:
    """State, active tickets, last sequence."""
    for name, statement in FOLDS.items():
        yield from (f"{name}: {row}" for row in whole.rows(statement))


def what_was_committed_is_in_the_log(whole: Whole) -> Iterator[str]:
    """Of each order and writer all sequences, from the first to its row's; copies of one are the
    same bytes.
    """
    for kind, schema in WRITERS.items():
        said: dict[str, dict[int, bytes]] = defaultdict(dict)
        for record in whole.lanes.log_of(kind.topic):
            if record.header("ce_source") != f"/stubline/{schema}".encode() or b"\0" in (
                record.key or b""
            ):
                continue  # what a test wrote there
            place, value = json.loads(record.value or b""), record.value or b""
            if said[place["key"]].setdefault(place["sequence"], value) != value:
                yield f"{schema} says two things as {place['key']} {place['sequence']}"
        rows = {
            row["order_id"]: row["sequence"]
            for row in whole.rows(f"select order_id, sequence from {schema}.orders")
        }
        for order_id in rows.keys() | said.keys():
            places, last = sorted(said.get(order_id, ())), rows.get(order_id, 0)
            if places != list(range(1, last + 1)) and (
                kind.topic not in whole.lanes.disturbed or places[-1:] > [last]
            ):
                yield f"{schema} is at {last} with {order_id}, the log has {places}"


def dead_letters_are_the_source_byte_for_byte(whole: Whole) -> Iterator[str]:
    """The row, and its copies in the dead topic."""
    records = {
        (it.topic, it.partition, it.offset): it for log in whole.lanes.logs.values() for it in log
    }
    for letter in whole.lanes.dead_letters:
        source = records.get((letter.topic, letter.partition, letter.offset))
        if source is None:
            if letter.topic in {lane.topic for lane in whole.lanes.logs} - whole.lanes.disturbed:
                yield f"{letter} is for no record"
        elif (letter.key, letter.value, list(letter.headers)) != (
            source.key,
            source.value,
            list(source.headers),
        ):
            yield f"{letter} is not {source}"
    for stage in NAMES.groups:
        yield from lane_laws._copies(whole.lanes, stage)


def nobody_is_blamed_for_what_the_world_did(whole: Whole) -> Iterator[str]:
    yield from map(str, whole.rows(BLAMED))


def conservation_reads_zero(whole: Whole) -> Iterator[str]:
    """As the rows have it, and counted against the log itself."""
    yield from lane_laws.conservation_reads_zero(whole.lanes)
    yield from lane_laws.every_record_has_one_outcome(whole.lanes)
    if (gaps := sum(it.gaps for it in whole.lanes.lanes)) != whole.holes:
        yield f"{gaps} offsets were stepped over, and should be {whole.holes}"


def what_is_replayed_is_the_source_byte_for_byte(whole: Whole) -> Iterator[str]:
    yield from lane_laws.what_is_replayed_is_the_source_byte_for_byte(whole.lanes)


def nothing_waits_or_is_stopped(whole: Whole) -> Iterator[str]:
    yield from (
        f"{it.group} {it.lane}: {it.stopped_code}" for it in whole.lanes.lanes if it.stopped_code
    )
    yield from (
        f"{it} is on its way"
        for it in whole.lanes.dead_letters
        if it.state in {"requested", "replayed"}
    )
    for it in whole.lanes.lanes:
        log: Sequence[Record] = whole.lanes.logs.get(it.lane, ())
        if log and it.next_offset <= log[-1].offset:
            yield f"{it.group} {it.lane} is at {it.next_offset}, its log ends with {log[-1].offset}"


LAWS: Mapping[str, Callable[[Whole], Iterator[str]]] = {
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
        nobody_is_blamed_for_what_the_world_did,
        dead_letters_are_the_source_byte_for_byte,
        what_is_replayed_is_the_source_byte_for_byte,
    )
}
