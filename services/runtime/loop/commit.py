"""One transaction: rows locked and compared, the batch decided on locked rows, positions and
outputs written, commit.

Precedence of outcomes: a replay that is no longer asked for is a Duplicate before anything else;
then what parse or an earlier try found dead; then what the handler says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from schemas.envelope import Output
from schemas.text import rfc3339
from services.runtime.errors import Fatal, OutcomesMismatch, OutputTooLarge, Stop, Transient
from services.runtime.failures import FailureKind
from services.runtime.loop import dead_letters, outbox
from services.runtime.loop.batch import LaneSlice, LanesLost, RecordsFailed
from services.runtime.loop.breaker import FailureRateBreaker
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import PreparedRecord, RecordPosition
from services.runtime.loop.ports import DeadLetter, LaneAdvance, Transaction
from services.runtime.observability import metrics, tracing
from services.runtime.observability.telemetry import BatchDone
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
OUTPUT_BYTES_MAX = (
    RECORD_BYTES_MAX - 2**17
)  # key and value; with its headers it is a record that its readers take
BATCH_BYTES_MAX = (
    64 * 2**20
)  # of all outputs of a transaction: they wait in memory and in `unpublished`
TEXT_CHARS_MAX = 2_000
KINDS = frozenset({Effect, Duplicate, Superseded, Dead})


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What was committed: to be published now."""

    outputs: Mapping[LaneKey, list[Output]]
    done: BatchDone


def entries_of(parts: Sequence[LaneSlice]) -> list[PreparedRecord]:
    return [prepared for part in parts for prepared in part.taken]


def ask(
    service: Service[Any, S],
    fault: Callable[[BaseException], FailureKind],
    events: Sequence[Any],
    session: S,
) -> list[Outcome]:
    """The handler's answer. Raises RecordsFailed when what it raised is some record's fault."""
    try:
        outcomes = service.handle(events, session)
    except (Stop, Transient, Fatal):
        raise
    except Exception as error:
        if fault(error) is FailureKind.RECORD:
            raise RecordsFailed from error
        raise
    if len(outcomes) != len(events) or not set(map(type, outcomes)) <= KINDS:
        raise OutcomesMismatch(f"{len(outcomes)} outcomes for {len(events)} records")
    return outcomes


def too_large(outputs: Iterable[Output]) -> OutputTooLarge | None:
    """One output for its topic, or all of a batch for their rows."""
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
    """Decides batches of one service. It holds nothing between two batches but the brake."""

    def __init__(self, means: WorkerContext[S], brake: FailureRateBreaker) -> None:
        self._service, self._ledger, self._fault = means.service, means.ledger, means.fault
        self._brake, self._telemetry, self._clock = brake, means.telemetry, means.clock

    def commit(
        self, parts: Sequence[LaneSlice], verdicts: Mapping[RecordPosition, Dead]
    ) -> CommittedBatch:
        """Raises LanesLost, RecordsFailed or Braked with everything undone. Any other error may
        have come after the commit was sent: then nobody knows, and the lanes have to be acquired
        again.
        """
        begun, keys = self._clock(), [part.lane.key for part in parts]
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([part.claim for part in parts])
            if locked.lost:
                raise LanesLost(locked.lost)
            self._telemetry.transaction_begun(keys)
            entries = entries_of(parts)
            live = _live_letters(transaction, entries)
            outcomes = self._outcomes(transaction, entries, verdicts, live)
            flags = self._brake.check(outcomes)
            _check_counts(outcomes)
            outputs = self._outputs(entries, outcomes, locked.now)
            self._close_replays(transaction, entries, outcomes, live)
            self._bury(transaction, parts, entries, outcomes, outputs)
            transaction.advance(_advances(parts, outcomes, outputs))
            self._telemetry.committing(keys)
            transaction.commit()
        self._brake.note(flags)
        done = _done(keys, outcomes, sum(map(len, outputs.values())), self._clock() - begun)
        self._telemetry.committed(done)
        return CommittedBatch(outputs, done)

    def _outcomes(
        self,
        transaction: Transaction[S],
        entries: Sequence[PreparedRecord],
        verdicts: Mapping[RecordPosition, Dead],
        live: frozenset[UUID],
    ) -> list[Outcome]:
        wanted = set(live)
        outcomes: list[Outcome | None] = [None] * len(entries)
        asked: list[int] = []
        for index, entry in enumerate(entries):
            letter_id, event = entry.record.letter_id, entry.event
            if letter_id is not None:
                if letter_id not in wanted:
                    outcomes[index] = Duplicate()  # not asked for, or not any more: a copy
                    continue
                wanted.discard(letter_id)  # of two copies in a batch the first counts
            if isinstance(event, Dead):
                outcomes[index] = event
            elif verdicts and (verdict := verdicts.get(entry.place)):
                outcomes[index] = verdict
            else:
                asked.append(index)
        if asked:
            events = [entries[index].event for index in asked]
            answers = ask(self._service, self._fault, events, transaction.session)
            if len(answers) == len(entries):
                return answers
            for index, answer in zip(asked, answers, strict=True):
                outcomes[index] = answer
        return [outcome for outcome in outcomes if outcome is not None]

    def _outputs(
        self, entries: Sequence[PreparedRecord], outcomes: Sequence[Outcome], now: datetime
    ) -> dict[LaneKey, list[Output]]:
        """Complete records: whoever publishes them again publishes the same bytes."""
        time = rfc3339(now)
        outputs: dict[LaneKey, list[Output]] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            if not isinstance(outcome, Effect) or not outcome.outputs:
                continue
            hop = tracing.hop(entry.record.header(tracing.HEADER))
            encoded = [event.encode(time=time, traceparent=hop) for event in outcome.outputs]
            outputs.setdefault(entry.lane, []).extend(encoded)
        if error := too_large(output for encoded in outputs.values() for output in encoded):
            # the record that says it for its key need not be the one that made it large
            raise RecordsFailed from error
        return outputs

    def _close_replays(
        self,
        transaction: Transaction[S],
        entries: Sequence[PreparedRecord],
        outcomes: Sequence[Outcome],
        live: frozenset[UUID],
    ) -> None:
        """A replay that failed opens its letter again; every other end resolves it. The first copy
        of a batch speaks.
        """
        if not live:
            return
        ends: dict[UUID, Outcome] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            letter_id = entry.record.letter_id
            if letter_id is not None and letter_id in live:
                ends.setdefault(letter_id, outcome)
        if failed := [
            (letter_id, end.error.code, storable(end.error.cause, TEXT_CHARS_MAX))
            for letter_id, end in ends.items()
            if isinstance(end, Dead)
        ]:
            transaction.reopen_letters(failed)
        if resolved := [letter_id for letter_id, end in ends.items() if not isinstance(end, Dead)]:
            transaction.resolve_letters(resolved)

    def _bury(
        self,
        transaction: Transaction[S],
        parts: Sequence[LaneSlice],
        entries: Sequence[PreparedRecord],
        outcomes: Sequence[Outcome],
        outputs: dict[LaneKey, list[Output]],
    ) -> None:
        """Letters of the dead, and their copies for the dead topic."""
        if Dead not in set(map(type, outcomes)):
            return
        topic_ids = {part.lane.key: part.lane.topic_id for part in parts}
        dead = [
            (entry.lane, _letter(entry, outcome, topic_ids[entry.lane], self._service.subject))
            for entry, outcome in zip(entries, outcomes, strict=True)
            if isinstance(outcome, Dead) and entry.record.letter_id is None
        ]
        if dead:
            stored = transaction.add_letters([letter for _, letter in dead])
            for (lane, letter), (letter_id, attempts) in zip(dead, stored, strict=True):
                if letter.original is not None:
                    continue  # a copy of the first part would look like the record
                copy = dead_letters.dead_output(
                    self._service.dead_topic, self._service.group, letter, letter_id, attempts
                )
                outputs.setdefault(lane, []).append(copy)


def _check_counts(outcomes: Sequence[Outcome]) -> None:
    """Before the commit, so that a misspelt counter is found by its first batch and not after it
    was counted.
    """
    names = {name for outcome in outcomes if outcome.counts for name in outcome.counts}
    if names:
        metrics.check_counts(dict.fromkeys(names, 1))


def _live_letters(
    transaction: Transaction[Any], entries: Sequence[PreparedRecord]
) -> frozenset[UUID]:
    """Letters whose replay is still wanted, locked before any work is done for them (model/: rule
    22).
    """
    asked = {entry.record.letter_id for entry in entries} - {None}
    return (
        transaction.lock_letters(sorted(letter_id for letter_id in asked if letter_id))
        if asked
        else frozenset()
    )


def _letter(
    entry: PreparedRecord, dead: Dead, topic_id: str, subject: Callable[[Record], str | None]
) -> DeadLetter:
    record = entry.record
    found = tracing.parse(record.header(tracing.HEADER))
    stage = "parse" if isinstance(entry.event, Dead) else "handle"
    text = storable(dead.error.cause or str(dead.error), TEXT_CHARS_MAX)
    whose = dead.subject_key or subject(record)
    trace_id = found.trace_id if found else None
    return DeadLetter(
        record, topic_id, stage, dead.error.code, text, trace_id, whose, dead.original
    )


def _advances(
    parts: Sequence[LaneSlice], outcomes: Sequence[Outcome], outputs: Mapping[LaneKey, list[Output]]
) -> list[LaneAdvance]:
    rows, at = [], 0
    for part in parts:
        kinds = Counter(map(type, outcomes[at : at + len(part.taken)]))
        at += len(part.taken)
        rows.append(
            LaneAdvance(
                claim=part.claim,
                next_offset=part.taken[-1].offset + 1,
                unpublished=outbox.encode(outputs.get(part.lane.key, ())),
                gaps=sum(prepared.gap for prepared in part.taken),
                effects=kinds[Effect],
                duplicates=kinds[Duplicate],
                superseded=kinds[Superseded],
                dead=kinds[Dead],
            )
        )
    return rows


def _done(
    keys: Sequence[LaneKey], outcomes: Sequence[Outcome], outputs: int, seconds: float
) -> BatchDone:
    kinds = Counter(map(type, outcomes))
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.counts:
            counts.update(outcome.counts)
    dead = (
        Counter(outcome.error.code for outcome in outcomes if isinstance(outcome, Dead))
        if kinds[Dead]
        else {}
    )
    return BatchDone(
        keys, kinds[Effect], kinds[Duplicate], kinds[Superseded], dead, outputs, seconds, counts
    )
