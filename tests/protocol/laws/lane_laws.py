"""The laws: what must be true after any fault. Each is a function over the system's state that
yields the ways in which it is broken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from services.runtime.records import TIMER, LaneKey, Record
from tests.protocol.laws.system_state import DeadLetterFacts, LaneFacts, SystemState
from tests.protocol.toy.events import FirstSnapshot, SecondSnapshot, ToyInput

Law = Callable[[SystemState], Iterator[str]]


def broken(state: SystemState) -> dict[str, list[str]]:
    """Return the broken laws, each with the cases."""
    return {name: problems for name, law in LAWS.items() if (problems := list(law(state)))}


def check(state: SystemState) -> None:
    """Check all laws. A failure names each broken law, with its first cases."""
    if problems := broken(state):
        lines = [
            f"{name} ({len(cases)}):\n    " + "\n    ".join(cases[:8])
            for name, cases in problems.items()
        ]
        raise AssertionError("broken laws\n" + "\n".join(lines))


def every_input_has_its_effect_once(state: SystemState) -> Iterator[str]:
    """Each id has one row, and its amount counts once; poison has none, unless its dead letter
    was replayed and resolved.
    """
    wanted = wanted_inputs(state)
    for input_ in (wanted_input for key, wanted_input in wanted.items() if key not in state.inputs):
        yield f"{input_.id} has no effect"
    for key in state.inputs.keys() - wanted.keys():
        yield f"{key} has an effect and should have none"
    totals = Counter[str]()
    for input_ in wanted.values():
        totals[input_.key] += input_.amount
    for key, row in state.firsts.items():
        if row.total != totals[key]:
            yield f"{key} sums up to {row.total} and should to {totals[key]}"


def wanted_inputs(state: SystemState) -> dict[str, ToyInput]:
    resolved = {
        (dead_letter.topic, dead_letter.partition, dead_letter.offset)
        for dead_letter in state.dead_letters
        if dead_letter.state == "resolved"
    }
    return {
        record.input.id: record.input
        for record in state.sent
        if record.input is not None
        and (
            not state.is_poison(record)
            or (record.topic, record.partition, record.offset) in resolved
        )
    }


def effects_are_counted_once(state: SystemState) -> Iterator[str]:
    """Lanes with input from the test have an effect for each id and a duplicate for each copy."""
    if state.was_rewound or state.incomplete_topics:
        return
    fed = {*state.names.inputs, state.names.replay["first"]}
    effects = sum(row.effects for row in state.lanes_of("first") if row.lane.topic in fed)
    if effects != (wanted := len(wanted_inputs(state))):
        yield f"{effects} effects for {wanted} inputs"
    dead = sum(row.dead for row in state.lanes_of("first") if row.lane.topic in state.names.inputs)
    if dead != (wanted := sum(state.is_poison(record) for record in state.sent)):
        yield f"{dead} dead for {wanted} poisonous records"


def sequences_have_no_gap_and_no_repeat(state: SystemState) -> Iterator[str]:
    history = defaultdict[str, list[int]](list)
    for snapshot in state.snapshots:
        history[snapshot.key].append(snapshot.sequence)
    for key, row in state.firsts.items():
        if sorted(history[key]) != list(range(1, row.sequence + 1)):
            yield f"{key} is at {row.sequence} and has the sequences {sorted(history[key])}"


def what_a_writer_knows_is_published(state: SystemState) -> Iterator[str]:
    """A writer's row and its last snapshot agree."""
    last = {
        snapshot.key: snapshot
        for snapshot in sorted(
            state.snapshots, key=lambda snapshot: (snapshot.generation, snapshot.sequence)
        )
    }
    for key, row in state.firsts.items():
        if (published := last.get(key)) is None:
            if row.digest is not None:
                yield f"{key} has a digest and no snapshot"
        elif (row.state, row.children, row.total, row.confirmed) != (
            published.state,
            published.children,
            published.total,
            published.confirmed,
        ):
            yield f"{key} is {row} and published {published}"


def what_was_committed_is_in_the_log(state: SystemState) -> Iterator[str]:
    """Nothing lost, nothing invented: the topic holds each committed snapshot, and no other."""
    committed = {
        (snapshot.key, snapshot.generation, snapshot.sequence): snapshot
        for snapshot in state.snapshots
    }
    published = set[tuple[str, int, int]]()
    for record in state.log_of(state.names.outputs["first"]):
        snapshot = FirstSnapshot.read(record.headers, record.value)
        place = (snapshot.key, snapshot.generation, snapshot.sequence)
        published.add(place)
        if (expected := committed.get(place)) is None:
            yield f"{place} is in the log and was never committed"
        elif (expected.state, expected.children, expected.total, expected.confirmed) != (
            snapshot.state,
            snapshot.children,
            snapshot.total,
            snapshot.confirmed,
        ):
            yield f"{place} is {snapshot} in the log and was committed as {expected}"
    if state.names.outputs["first"] not in state.incomplete_topics:
        yield from (
            f"{place} was committed and is not in the log"
            for place in sorted(committed.keys() - published)
        )


def what_the_second_stage_publishes_is_in_the_log(state: SystemState) -> Iterator[str]:
    published = defaultdict[str, dict[int, SecondSnapshot]](dict)
    for record in state.log_of(state.names.outputs["second"]):
        snapshot = SecondSnapshot.read(record.headers, record.value)
        if (before := published[snapshot.key].setdefault(snapshot.sequence, snapshot)) != snapshot:
            yield f"{snapshot.key} has two snapshots {snapshot.sequence}: {before} and {snapshot}"
    for key, row in state.seconds.items():
        if sorted(published[key]) != list(range(1, row.sequence + 1)):
            yield f"{key} is at {row.sequence}, the log has {sorted(published[key])}"
        elif row.sequence and (row.state, row.active) != (
            published[key][row.sequence].state,
            published[key][row.sequence].active,
        ):
            yield f"{key} is {row} and published {published[key][row.sequence]}"


def the_next_stage_is_the_fold_of_what_was_committed(state: SystemState) -> Iterator[str]:
    """State, active children and last sequence agree, and stage two's answer has come back."""
    last = {
        snapshot.key: snapshot
        for snapshot in sorted(
            state.snapshots, key=lambda snapshot: (snapshot.generation, snapshot.sequence)
        )
    }
    for key, snapshot in last.items():
        row = state.seconds.get(key)
        active = snapshot.children if snapshot.state == "released" else ()
        if row is None:
            yield f"{key} is unknown to the second stage"
        elif (row.state, row.children, row.first_generation, row.first_sequence) != (
            snapshot.state,
            active,
            snapshot.generation,
            snapshot.sequence,
        ):
            yield f"{key} is {row} and should be {snapshot}"
        elif (
            first := state.firsts[key]
        ).answer_sequence != row.sequence or first.confirmed != row.active:
            yield f"{key} was answered by {row}, and the first stage has {first}"
    yield from (f"{key} was never published" for key in state.seconds.keys() - last.keys())


def conservation_reads_zero(state: SystemState) -> Iterator[str]:
    for lane in state.lanes:
        if lane.conservation_gap:
            yield f"{lane}"
        if lane.next_offset - lane.first_offset - lane.gaps + lane.rewound != lane.outcomes:
            yield f"{lane}: its own sum is wrong"


def every_record_has_one_outcome(state: SystemState) -> Iterator[str]:
    """Outcomes are counted against the log itself."""
    rows = {(row.group, row.lane): row for row in state.lanes}
    for stage, group in state.names.groups.items():
        topics = (*state.names.own_inputs[stage], state.names.replay[stage])
        for lane in sorted(lane for lane in state.logs if lane.topic in topics):
            if lane.topic not in state.incomplete_topics:
                yield from _consumed(rows.get((group, lane)), lane, state.logs[lane])


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


def snapshots_are_classified_by_their_order_in_the_log(state: SystemState) -> Iterator[str]:
    """Stage two's outcomes equal those computed from its input: greater is an effect, equal a
    duplicate, smaller superseded.
    """
    if state.was_rewound or state.incomplete_topics:
        return
    where = defaultdict[str, set[LaneKey]](set)
    wanted, last = Counter[str](), dict[str, tuple[int, int]]()
    for record in state.log_of(state.names.outputs["first"]):
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
        row for row in state.lanes_of("second") if row.lane.topic == state.names.outputs["first"]
    ]
    for name in ("effects", "duplicates", "superseded"):
        if (count := sum(getattr(row, name) for row in rows)) != wanted[name]:
            yield f"{count} {name}, the log makes it {wanted[name]}"


def dead_letters_are_the_source_byte_for_byte(state: SystemState) -> Iterator[str]:
    """Each poison record, and no other, has one row, and at least one equal copy in the dead
    topic.
    """
    dead_letters = {
        (dead_letter.topic, dead_letter.partition, dead_letter.offset): dead_letter
        for dead_letter in state.dead_letters
        if dead_letter.group.endswith(".first")
    }
    for sent in state.sent:
        dead_letter = dead_letters.pop((sent.topic, sent.partition, sent.offset), None)
        if (
            state.is_poison(sent)
            and dead_letter is None
            and sent.topic not in state.incomplete_topics
        ):
            yield f"{sent.topic}/{sent.partition}/{sent.offset} has no dead letter"
        if dead_letter is not None and not state.is_poison(sent):
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
    for stage in state.names.groups:
        yield from _copies(state, stage)


def _copies(state: SystemState, stage: str) -> Iterator[str]:
    dead_letters = {
        str(dead_letter.id): dead_letter
        for dead_letter in state.dead_letters
        if dead_letter.group == state.names.groups[stage]
    }
    uncopied = set(dead_letters)
    for copy in state.log_of(state.names.dead[stage]):
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


def what_is_replayed_is_the_source_byte_for_byte(state: SystemState) -> Iterator[str]:
    """The headers that name the dead letter come after the source's own."""
    dead_letters = {str(dead_letter.id): dead_letter for dead_letter in state.dead_letters}
    for stage in state.names.groups:
        for copy in state.log_of(state.names.replay[stage]):
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


def nothing_waits(state: SystemState) -> Iterator[str]:
    """Once settled, outboxes are empty, no lane has lag, no replay is on its way, and no
    work is due.
    """
    rows = {(row.group, row.lane): row for row in state.lanes}
    for row in state.lanes:
        if row.has_outbox and row.stopped_code is None:
            yield f"{row.group} {row.lane} has an outbox"
        log = state.logs.get(row.lane)
        if (
            log
            and row.lane != TIMER
            and row.stopped_code is None
            and row.next_offset <= log[-1].offset
        ):
            end = log[-1].offset
            yield f"{row.group} {row.lane} is at {row.next_offset}, its log ends with {end}"
    yield from (
        f"{dead_letter} is on its way"
        for dead_letter in state.dead_letters
        if dead_letter.state in ("requested", "replayed")
    )
    yield from (f"{key} is due" for key, row in state.firsts.items() if row.is_due and rows)


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
