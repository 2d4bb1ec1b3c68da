"""The laws: what must be true after any fault. Each yields the ways in which the evidence breaks
it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from services.runtime.records import TIMER, LaneKey, Record
from tests.protocol.laws.evidence import DeadLetterFacts, Evidence, LaneFacts
from tests.protocol.toy.events import FirstSnapshot, Input, SecondSnapshot

Law = Callable[[Evidence], Iterator[str]]


def broken(evidence: Evidence) -> dict[str, list[str]]:
    """Return the broken laws, each with the cases."""
    return {name: found for name, law in LAWS.items() if (found := list(law(evidence)))}


def check(evidence: Evidence) -> None:
    """Check all laws. A failure names each broken law, with its first cases."""
    if found := broken(evidence):
        lines = [
            f"{name} ({len(cases)}):\n    " + "\n    ".join(cases[:8])
            for name, cases in found.items()
        ]
        raise AssertionError("broken laws\n" + "\n".join(lines))


def every_input_has_its_effect_once(evidence: Evidence) -> Iterator[str]:
    """Each id has one row, and its amount counts once; poison has none, unless its dead letter
    was replayed and resolved.
    """
    wanted = wanted_inputs(evidence)
    for input_ in (it for key, it in wanted.items() if key not in evidence.inputs):
        yield f"{input_.id} has no effect"
    for key in evidence.inputs.keys() - wanted.keys():
        yield f"{key} has an effect and should have none"
    totals = Counter[str]()
    for input_ in wanted.values():
        totals[input_.key] += input_.amount
    for key, row in evidence.firsts.items():
        if row.total != totals[key]:
            yield f"{key} sums up to {row.total} and should to {totals[key]}"


def wanted_inputs(evidence: Evidence) -> dict[str, Input]:
    resolved = {
        (it.topic, it.partition, it.offset)
        for it in evidence.dead_letters
        if it.state == "resolved"
    }
    return {
        it.input.id: it.input
        for it in evidence.sent
        if it.input is not None
        and (not evidence.is_poison(it) or (it.topic, it.partition, it.offset) in resolved)
    }


def effects_are_counted_once(evidence: Evidence) -> Iterator[str]:
    """Lanes with input from the test have an effect for each id and a duplicate for each copy."""
    if evidence.was_rewound or evidence.disturbed:
        return
    fed = {*evidence.names.inputs, evidence.names.replay["first"]}
    effects = sum(it.effects for it in evidence.lanes_of("first") if it.lane.topic in fed)
    if effects != (wanted := len(wanted_inputs(evidence))):
        yield f"{effects} effects for {wanted} inputs"
    dead = sum(
        it.dead for it in evidence.lanes_of("first") if it.lane.topic in evidence.names.inputs
    )
    if dead != (wanted := sum(evidence.is_poison(it) for it in evidence.sent)):
        yield f"{dead} dead for {wanted} poisonous records"


def sequences_have_no_gap_and_no_repeat(evidence: Evidence) -> Iterator[str]:
    history = defaultdict[str, list[int]](list)
    for snapshot in evidence.snapshots:
        history[snapshot.key].append(snapshot.sequence)
    for key, row in evidence.firsts.items():
        if sorted(history[key]) != list(range(1, row.sequence + 1)):
            yield f"{key} is at {row.sequence} and has the sequences {sorted(history[key])}"


def what_a_writer_knows_is_published(evidence: Evidence) -> Iterator[str]:
    """A writer's row and its last snapshot agree."""
    last = {
        it.key: it for it in sorted(evidence.snapshots, key=lambda it: (it.generation, it.sequence))
    }
    for key, row in evidence.firsts.items():
        if (it := last.get(key)) is None:
            if row.digest is not None:
                yield f"{key} has a digest and no snapshot"
        elif (row.state, row.children, row.total, row.confirmed) != (
            it.state,
            it.children,
            it.total,
            it.confirmed,
        ):
            yield f"{key} is {row} and published {it}"


def what_was_committed_is_in_the_log(evidence: Evidence) -> Iterator[str]:
    """Nothing lost, nothing invented: the topic holds each committed snapshot, and no other."""
    committed = {(it.key, it.generation, it.sequence): it for it in evidence.snapshots}
    published = set[tuple[str, int, int]]()
    for record in evidence.log_of(evidence.names.outputs["first"]):
        snapshot = FirstSnapshot.read(record.headers, record.value)
        place = (snapshot.key, snapshot.generation, snapshot.sequence)
        published.add(place)
        if (it := committed.get(place)) is None:
            yield f"{place} is in the log and was never committed"
        elif (it.state, it.children, it.total, it.confirmed) != (
            snapshot.state,
            snapshot.children,
            snapshot.total,
            snapshot.confirmed,
        ):
            yield f"{place} is {snapshot} in the log and was committed as {it}"
    if evidence.names.outputs["first"] not in evidence.disturbed:
        yield from (
            f"{place} was committed and is not in the log"
            for place in sorted(committed.keys() - published)
        )


def what_the_second_stage_publishes_is_in_the_log(evidence: Evidence) -> Iterator[str]:
    published = defaultdict[str, dict[int, SecondSnapshot]](dict)
    for record in evidence.log_of(evidence.names.outputs["second"]):
        snapshot = SecondSnapshot.read(record.headers, record.value)
        if (before := published[snapshot.key].setdefault(snapshot.sequence, snapshot)) != snapshot:
            yield f"{snapshot.key} has two snapshots {snapshot.sequence}: {before} and {snapshot}"
    for key, row in evidence.seconds.items():
        if sorted(published[key]) != list(range(1, row.sequence + 1)):
            yield f"{key} is at {row.sequence}, the log has {sorted(published[key])}"
        elif row.sequence and (row.state, row.active) != (
            published[key][row.sequence].state,
            published[key][row.sequence].active,
        ):
            yield f"{key} is {row} and published {published[key][row.sequence]}"


def the_next_stage_is_the_fold_of_what_was_committed(evidence: Evidence) -> Iterator[str]:
    """State, active children and last sequence agree, and stage two's answer has come back."""
    last = {
        it.key: it for it in sorted(evidence.snapshots, key=lambda it: (it.generation, it.sequence))
    }
    for key, it in last.items():
        row = evidence.seconds.get(key)
        active = it.children if it.state == "released" else ()
        if row is None:
            yield f"{key} is unknown to the second stage"
        elif (row.state, row.children, row.first_generation, row.first_sequence) != (
            it.state,
            active,
            it.generation,
            it.sequence,
        ):
            yield f"{key} is {row} and should be {it}"
        elif (
            first := evidence.firsts[key]
        ).answer_sequence != row.sequence or first.confirmed != row.active:
            yield f"{key} was answered by {row}, and the first stage has {first}"
    yield from (f"{key} was never published" for key in evidence.seconds.keys() - last.keys())


def conservation_reads_zero(evidence: Evidence) -> Iterator[str]:
    for it in evidence.lanes:
        if it.conservation_gap:
            yield f"{it}"
        if it.next_offset - it.first_offset - it.gaps + it.rewound != it.outcomes:
            yield f"{it}: its own sum is wrong"


def every_record_has_one_outcome(evidence: Evidence) -> Iterator[str]:
    """Outcomes are counted against the log itself."""
    rows = {(it.group, it.lane): it for it in evidence.lanes}
    for stage, group in evidence.names.groups.items():
        topics = (*evidence.names.own_inputs[stage], evidence.names.replay[stage])
        for lane in sorted(lane for lane in evidence.logs if lane.topic in topics):
            if lane.topic not in evidence.disturbed:
                yield from _consumed(rows.get((group, lane)), lane, evidence.logs[lane])


def _consumed(row: LaneFacts | None, lane: LaneKey, log: Sequence[Record]) -> Iterator[str]:
    if row is None:
        if log:
            yield f"{lane} has records and no row"
        return
    records = sum(row.first_offset <= record.offset < row.next_offset for record in log)
    if row.outcomes != records + row.rewound:
        yield f"{lane}: {records} records and {row.rewound} again, {row.outcomes} outcomes"
    if row.next_offset - row.first_offset - row.gaps != records:
        yield (
            f"{lane}: {row.gaps} gaps are counted, "
            f"{row.next_offset - row.first_offset - records} are there"
        )


def snapshots_are_classified_by_their_order_in_the_log(evidence: Evidence) -> Iterator[str]:
    """Stage two's outcomes equal those computed from its input: greater is an effect, equal a
    duplicate, smaller superseded.
    """
    if evidence.was_rewound or evidence.disturbed:
        return
    where = defaultdict[str, set[LaneKey]](set)
    wanted, last = Counter[str](), dict[str, tuple[int, int]]()
    for record in evidence.log_of(evidence.names.outputs["first"]):
        snapshot = FirstSnapshot.read(record.headers, record.value)
        where[snapshot.key].add(LaneKey(record.topic, record.partition))
        place, before = (snapshot.generation, snapshot.sequence), last.get(snapshot.key, (0, 0))
        wanted[
            "effects" if place > before else "duplicates" if place == before else "superseded"
        ] += 1
        last[snapshot.key] = max(place, before)
    if any(len(lanes) > 1 for lanes in where.values()):
        return  # a key in two partitions: either may have been read first
    rows = [
        it for it in evidence.lanes_of("second") if it.lane.topic == evidence.names.outputs["first"]
    ]
    for name in ("effects", "duplicates", "superseded"):
        if (found := sum(getattr(row, name) for row in rows)) != wanted[name]:
            yield f"{found} {name}, the log makes it {wanted[name]}"


def dead_letters_are_the_source_byte_for_byte(evidence: Evidence) -> Iterator[str]:
    """Each poison record, and no other, has one row, and at least one equal copy in the dead
    topic.
    """
    dead_letters = {
        (it.topic, it.partition, it.offset): it
        for it in evidence.dead_letters
        if it.group.endswith(".first")
    }
    for sent in evidence.sent:
        dead_letter = dead_letters.pop((sent.topic, sent.partition, sent.offset), None)
        if (
            evidence.is_poison(sent)
            and dead_letter is None
            and sent.topic not in evidence.disturbed
        ):
            yield f"{sent.topic}/{sent.partition}/{sent.offset} has no dead letter"
        if dead_letter is not None and not evidence.is_poison(sent):
            yield f"{dead_letter} is for a record that is sound"
        if dead_letter is not None and (
            dead_letter.key,
            dead_letter.value,
            list(dead_letter.headers),
        ) != (
            sent.key,
            sent.value,
            list(sent.headers),
        ):
            yield f"{dead_letter} is not {sent}"
    yield from (
        f"{dead_letter} is for no record that was sent" for dead_letter in dead_letters.values()
    )
    for stage in evidence.names.groups:
        yield from _copies(evidence, stage)


def _copies(evidence: Evidence, stage: str) -> Iterator[str]:
    dead_letters = {
        str(it.id): it for it in evidence.dead_letters if it.group == evidence.names.groups[stage]
    }
    uncopied = set(dead_letters)
    for copy in evidence.log_of(evidence.names.dead[stage]):
        dead_letter_id = (copy.header("stubline-dead-letter-id") or b"").decode()
        dead_letter = dead_letters.get(dead_letter_id)
        if dead_letter is None:
            yield f"{dead_letter_id} in the dead topic is no dead letter"
            continue
        uncopied.discard(dead_letter_id)
        if not _is_copy(copy, dead_letter):
            yield f"the copy of {dead_letter_id} differs"
    yield from (
        f"{dead_letters[dead_letter_id]} has no copy in the dead topic"
        for dead_letter_id in uncopied
    )


def _is_copy(copy: Record, dead_letter: DeadLetterFacts) -> bool:
    source = list(dead_letter.headers)
    where = {
        "topic": dead_letter.topic,
        "partition": str(dead_letter.partition),
        "offset": str(dead_letter.offset),
    }
    origin = {name: (copy.header(f"__dlq.errors.{name}") or b"").decode() for name in where}
    return (copy.key, copy.value, list(copy.headers)[: len(source)], origin) == (
        dead_letter.key,
        dead_letter.value,
        source,
        where,
    )


def what_is_replayed_is_the_source_byte_for_byte(evidence: Evidence) -> Iterator[str]:
    """The headers that name the dead letter come after the source's own."""
    dead_letters = {str(it.id): it for it in evidence.dead_letters}
    for stage in evidence.names.groups:
        for copy in evidence.log_of(evidence.names.replay[stage]):
            dead_letter = dead_letters.get((copy.header("stubline-dead-letter-id") or b"").decode())
            if dead_letter is None:
                yield f"{copy} replays no dead letter"
                continue
            source = list(dead_letter.headers)
            if (copy.key, copy.value, list(copy.headers)[: len(source)]) != (
                dead_letter.key,
                dead_letter.value,
                source,
            ):
                yield f"{copy} is not {dead_letter}"


def nothing_waits(evidence: Evidence) -> Iterator[str]:
    """Once settled, outboxes are empty, no lane has lag, no replay is on its way, and no
    work is due.
    """
    rows = {(it.group, it.lane): it for it in evidence.lanes}
    for it in evidence.lanes:
        if it.has_outbox and it.stopped_code is None:
            yield f"{it.group} {it.lane} has an outbox"
        log = evidence.logs.get(it.lane)
        if (
            log
            and it.lane != TIMER
            and it.stopped_code is None
            and it.next_offset <= log[-1].offset
        ):
            yield f"{it.group} {it.lane} is at {it.next_offset}, its log ends with {log[-1].offset}"
    yield from (
        f"{it} is on its way"
        for it in evidence.dead_letters
        if it.state in ("requested", "replayed")
    )
    yield from (f"{key} is due" for key, row in evidence.firsts.items() if row.is_due and rows)


LAWS: Mapping[str, Law] = {
    law.__name__.replace("_", " "): law
    for law in (
        nothing_waits,
        every_input_has_its_effect_once,
        effects_are_counted_once,
        every_record_has_one_outcome,
        conservation_reads_zero,
        sequences_have_no_gap_and_no_repeat,
        what_a_writer_knows_is_published,
        what_was_committed_is_in_the_log,
        what_the_second_stage_publishes_is_in_the_log,
        the_next_stage_is_the_fold_of_what_was_committed,
        snapshots_are_classified_by_their_order_in_the_log,
        dead_letters_are_the_source_byte_for_byte,
        what_is_replayed_is_the_source_byte_for_byte,
    )
}
