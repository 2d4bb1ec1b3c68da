"""Decides a batch of records and commits it in one transaction.

Outcomes have an order of precedence. A replay that is no longer wanted is a Duplicate before
anything else; then comes what parsing or bisecting found dead; then what the handler returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, TypeVar
from uuid import UUID

from schemas.envelope import Output
from schemas.text import rfc3339
from services.runtime.errors import Fatal, OutcomesMismatch, OutputTooLarge, Stop, Transient
from services.runtime.failures.classification import FailureKind
from services.runtime.loop import dead_letters, outbox
from services.runtime.loop.batch import LanesFenced, LaneSlice, RecordsFailed
from services.runtime.loop.breaker import FailureRateBreaker
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import PreparedRecord, RecordPosition
from services.runtime.observability import metrics, tracing
from services.runtime.observability.telemetry import BatchSummary
from services.runtime.ports import DeadLetter, LaneUpdate, Transaction
from services.runtime.records import (
    RECORD_BYTES_MAX,
    Dead,
    Duplicate,
    Effect,
    LaneKey,
    Outcome,
    Record,
    Superseded,
)
from services.runtime.service import Service
from services.runtime.text import storable

S = TypeVar("S")
# Of an output's key and value: with its headers it is then a record that readers can work.
OUTPUT_BYTES_MAX = RECORD_BYTES_MAX - 2**17
# Of all outputs of a transaction, which wait in memory and in the rows' outboxes.
BATCH_BYTES_MAX = 64 * 2**20
CAUSE_CHARS_MAX = 2_000
OUTCOME_TYPES = frozenset({Effect, Duplicate, Superseded, Dead})


@dataclass(slots=True)
class DecidedRecord:
    """A record of a batch, with its outcome."""

    prepared: PreparedRecord
    outcome: Outcome


OUTCOME, EVENT, GAP = attrgetter("outcome"), attrgetter("event"), attrgetter("gap_before")
DEAD_LETTER_ID = attrgetter("record.dead_letter_id")


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What was committed. The outputs are to be published now."""

    outputs: Mapping[LaneKey, list[Output]]
    summary: BatchSummary


def prepared_records(slices: Sequence[LaneSlice]) -> list[PreparedRecord]:
    return [prepared for lane_slice in slices for prepared in lane_slice.taken]


def call_handler(
    service: Service[Any, S],
    classify: Callable[[BaseException], FailureKind],
    events: Sequence[Any],
    session: S,
) -> list[Outcome]:
    """Return the handler's outcomes. Raises RecordsFailed if the handler raised for a record."""
    try:
        outcomes = service.handle(events, session)
    except (Stop, Transient, Fatal):
        raise
    except Exception as error:
        if classify(error) is FailureKind.RECORD:
            raise RecordsFailed from error
        raise
    if len(outcomes) != len(events) or not set(map(type, outcomes)) <= OUTCOME_TYPES:
        raise OutcomesMismatch(f"{len(outcomes)} outcomes for {len(events)} records")
    return outcomes


def output_too_large(outputs: Iterable[Output]) -> OutputTooLarge | None:
    """Return an error if one output is too large for its topic, or all of them for their rows."""
    total = 0
    for output in outputs:
        size = len(output.value or b"") + len(output.key or b"")
        total += size
        if size > OUTPUT_BYTES_MAX:
            return OutputTooLarge(
                f"{size} bytes for {output.topic}, which takes {OUTPUT_BYTES_MAX}"
            )
    return (
        OutputTooLarge(f"{total} bytes in all, of {BATCH_BYTES_MAX}")
        if total > BATCH_BYTES_MAX
        else None
    )


class BatchCommitter(Generic[S]):
    """Commits the batches of one service. Between two batches it keeps only its breaker's state."""

    def __init__(self, context: WorkerContext[S], breaker: FailureRateBreaker) -> None:
        self._service, self._lane_store = context.service, context.lane_store
        self._classify, self._clock = context.classify, context.clock
        self._breaker, self._telemetry = breaker, context.telemetry

    def commit(
        self, slices: Sequence[LaneSlice], known_dead: Mapping[RecordPosition, Dead]
    ) -> CommittedBatch:
        """Decide a batch and commit it, in five steps.

        1. Lock the lanes' rows in key order and compare each with what this process expects.
        2. Decide each record on the locked rows, with one outcome.
        3. Check them before anything is written: failure rate, names of counters, output sizes.
        4. Write dead letters, the ends of replays, and the lanes' rows: new positions, counts of
           outcomes, and the outputs in the outbox.
        5. Commit. Only now the outcomes count.

        `known_dead`: what bisecting found in an earlier attempt. Raises LanesFenced, RecordsFailed
        or FailureRateExceeded with everything rolled back. After any other error it is unknown
        whether the commit took place, so the lanes have to be acquired again.
        """
        begun, keys = self._clock(), [lane_slice.lane.key for lane_slice in slices]
        with self._lane_store.transaction() as transaction:
            locked = transaction.lock([lane_slice.expected for lane_slice in slices])
            if locked.fenced:
                raise LanesFenced(locked.fenced)
            self._telemetry.transaction_begun(keys)
            records = prepared_records(slices)
            replays = _lock_replays(transaction, records)
            decided = self._decide(transaction.session, records, replays, known_dead)
            failed = self._breaker.check(list(map(OUTCOME, decided)))
            counts = _sum_counts(decided)
            outputs = _encode_outputs(slices, decided, locked.now)
            _close_replays(transaction, decided, replays)
            tallies = _tallies(slices, decided)
            if any(tally[Dead] for tally in tallies):
                self.add_dead_letters(transaction, slices, decided, outputs)
            transaction.advance(_advances(slices, tallies, outputs))
            self._telemetry.committing(keys)
            transaction.commit()
        self._breaker.record(failed)
        seconds = self._clock() - begun
        summary = _summary(keys, decided, tallies, outputs, counts=counts, seconds=seconds)
        self._telemetry.committed(summary)
        return CommittedBatch(outputs, summary)

    def _decide(
        self,
        session: S,
        records: Sequence[PreparedRecord],
        replays: Mapping[UUID, bool],
        known_dead: Mapping[RecordPosition, Dead],
    ) -> list[DecidedRecord]:
        """Return all records, in the order of the batch, each with its outcome."""
        events = list(map(EVENT, records))
        known: Mapping[int, Outcome] = {}
        if replays or known_dead or Dead in set(map(type, events)):
            known = _known_outcomes(records, replays, known_dead)
            events = [event for index, event in enumerate(events) if index not in known]
        outcomes: Iterable[Outcome] = ()
        if events:
            outcomes = call_handler(self._service, self._classify, events, session)
        if known:
            returned = iter(outcomes)
            outcomes = [known.get(index) or next(returned) for index in range(len(records))]
        return list(map(DecidedRecord, records, outcomes))

    def add_dead_letters(
        self,
        transaction: Transaction[S],
        slices: Sequence[LaneSlice],
        decided: Sequence[DecidedRecord],
        outputs: dict[LaneKey, list[Output]],
    ) -> None:
        """Store dead letters, and add their copies for the dead topic to the outputs (model/: rule
        17, dead letters are outputs).
        """
        topic_ids = {lane_slice.lane.key: lane_slice.lane.topic_id for lane_slice in slices}
        subject = self._service.subject
        new = [
            (entry.prepared.lane, _dead_letter(entry.prepared, entry.outcome, topic_ids, subject))
            for entry in decided
            if isinstance(entry.outcome, Dead) and entry.prepared.record.dead_letter_id is None
        ]
        if not new:
            return
        stored = transaction.add_dead_letters([dead_letter for _, dead_letter in new])
        for (lane, dead_letter), (dead_letter_id, attempts) in zip(new, stored, strict=True):
            if dead_letter.truncated is not None:
                continue  # a copy of the first part would look like the record
            copy = dead_letters.dead_output(
                self._service.dead_topic,
                self._service.group,
                dead_letter,
                dead_letter_id,
                attempts,
            )
            outputs.setdefault(lane, []).append(copy)


def _lock_replays(
    transaction: Transaction[Any], records: Sequence[PreparedRecord]
) -> dict[UUID, bool]:
    """Lock the dead letters that the batch replays, before any work is done for them (model/: rule
    22, replay state is locked). Returns which of them are still wanted.
    """
    ids = sorted(filter(None, set(map(DEAD_LETTER_ID, records))))
    if not ids:
        return {}
    wanted = transaction.lock_dead_letters(ids)
    return {dead_letter_id: dead_letter_id in wanted for dead_letter_id in ids}


def _known_outcomes(
    records: Sequence[PreparedRecord],
    replays: Mapping[UUID, bool],
    known_dead: Mapping[RecordPosition, Dead],
) -> dict[int, Outcome]:
    """Return the outcomes that the handler does not decide, by index in the batch."""
    known: dict[int, Outcome] = {}
    wanted = {dead_letter_id for dead_letter_id, is_wanted in replays.items() if is_wanted}
    for index, prepared in enumerate(records):
        dead_letter_id, event = prepared.record.dead_letter_id, prepared.event
        if dead_letter_id is not None:
            if dead_letter_id not in wanted:
                known[index] = Duplicate()  # never requested, or closed meanwhile, or a copy
                continue
            wanted.discard(dead_letter_id)  # of two copies in a batch the first one counts
        if isinstance(event, Dead):
            known[index] = event
        elif known_dead and (dead := known_dead.get(prepared.position)):
            known[index] = dead
    return known


def _sum_counts(decided: Sequence[DecidedRecord]) -> Mapping[str, int]:
    """Return the sums of what the handler counted.

    Raises UndeclaredMetric: a misspelt counter fails its first batch instead of being counted.
    """
    counts: Counter[str] = Counter()
    for outcome in map(OUTCOME, decided):
        if outcome.counts:
            counts.update(outcome.counts)
    metrics.check_counts(counts)
    return counts


def _by_lane(
    slices: Sequence[LaneSlice], decided: Sequence[DecidedRecord]
) -> Iterator[tuple[LaneSlice, Sequence[DecidedRecord]]]:
    begin = 0
    for lane_slice in slices:
        end = begin + len(lane_slice.taken)
        yield lane_slice, decided[begin:end]
        begin = end


def _encode_outputs(
    slices: Sequence[LaneSlice], decided: Sequence[DecidedRecord], now: datetime
) -> dict[LaneKey, list[Output]]:
    """Return the effects' outputs as complete records: publishing them again publishes the same
    bytes.
    """
    time = rfc3339(now)
    outputs: dict[LaneKey, list[Output]] = {}
    for lane_slice, entries in _by_lane(slices, decided):
        encoded: list[Output] = []
        for entry in entries:
            outcome = entry.outcome
            if not isinstance(outcome, Effect) or not outcome.outputs:
                continue
            hop = tracing.hop(entry.prepared.record.header(tracing.HEADER))
            encoded += [event.encode(time=time, traceparent=hop) for event in outcome.outputs]
        if encoded:
            outputs[lane_slice.lane.key] = encoded
    if error := output_too_large(chain.from_iterable(outputs.values())):
        # Bisecting finds the record that causes it: the one that publishes a key's snapshot need
        # not be the one that made it large.
        raise RecordsFailed from error
    return outputs


def _close_replays(
    transaction: Transaction[Any],
    decided: Sequence[DecidedRecord],
    replays: Mapping[UUID, bool],
) -> None:
    """Open the dead letter of a failed replay again, and resolve the others. Of several copies in a
    batch the first one counts.
    """
    ends: dict[UUID, Outcome] = {}
    for entry in decided if any(replays.values()) else ():
        dead_letter_id = entry.prepared.record.dead_letter_id
        if dead_letter_id is not None and replays[dead_letter_id]:
            ends.setdefault(dead_letter_id, entry.outcome)
    if failed := [
        (dead_letter_id, end.error.code, storable(end.error.cause, CAUSE_CHARS_MAX))
        for dead_letter_id, end in ends.items()
        if isinstance(end, Dead)
    ]:
        transaction.reopen_dead_letters(failed)
    if resolved := [
        dead_letter_id for dead_letter_id, end in ends.items() if not isinstance(end, Dead)
    ]:
        transaction.resolve_dead_letters(resolved)


def _dead_letter(
    prepared: PreparedRecord,
    dead: Dead,
    topic_ids: Mapping[LaneKey, str],
    subject: Callable[[Record], str | None],
) -> DeadLetter:
    record = prepared.record
    trace = tracing.parse(record.header(tracing.HEADER))
    return DeadLetter(
        record,
        topic_ids[prepared.lane],
        stage="parse" if isinstance(prepared.event, Dead) else "handle",
        code=dead.error.code,
        text=storable(dead.error.cause or str(dead.error), CAUSE_CHARS_MAX),
        trace_id=trace.trace_id if trace else None,
        subject_key=dead.subject_key or subject(record),
        truncated=dead.truncated,
    )


def _tallies(
    slices: Sequence[LaneSlice], decided: Sequence[DecidedRecord]
) -> list[Counter[type[Outcome]]]:
    """Return, for each lane, how many of its records have each kind of outcome."""
    return [Counter(map(type, map(OUTCOME, entries))) for _, entries in _by_lane(slices, decided)]


def _advances(
    slices: Sequence[LaneSlice],
    tallies: Sequence[Counter[type[Outcome]]],
    outputs: Mapping[LaneKey, list[Output]],
) -> list[LaneUpdate]:
    return [
        LaneUpdate(
            expected=lane_slice.expected,
            next_offset=lane_slice.taken[-1].offset + 1,
            outbox=outbox.encode(outputs.get(lane_slice.lane.key, ())),
            gaps=sum(map(GAP, lane_slice.taken)),
            effects=tally[Effect],
            duplicates=tally[Duplicate],
            superseded=tally[Superseded],
            dead=tally[Dead],
        )
        for lane_slice, tally in zip(slices, tallies, strict=True)
    ]


def _summary(
    keys: Sequence[LaneKey],
    decided: Sequence[DecidedRecord],
    tallies: Sequence[Counter[type[Outcome]]],
    outputs: Mapping[LaneKey, list[Output]],
    *,
    counts: Mapping[str, int],
    seconds: float,
) -> BatchSummary:
    total = sum(tallies, Counter[type[Outcome]]())
    dead: Mapping[str, int] = {}
    if total[Dead]:
        outcomes = map(OUTCOME, decided)
        dead = Counter(outcome.error.code for outcome in outcomes if isinstance(outcome, Dead))
    return BatchSummary(
        keys,
        effects=total[Effect],
        duplicates=total[Duplicate],
        superseded=total[Superseded],
        dead=dead,
        outputs=sum(map(len, outputs.values())),
        seconds=seconds,
        counts=counts,
    )
