"""Laws of classifying a batch of snapshots."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as some

from schemas.envelope import Position
from services.runtime.records import Duplicate, Effect, Superseded
from services.runtime.snapshots import classify_snapshots


class KeyedSnapshot(NamedTuple):
    key: str
    position: Position


POSITIONS = some.builds(Position, some.integers(0, 1), some.integers(1, 4))
BATCHES = some.lists(some.builds(KeyedSnapshot, some.sampled_from("ab"), POSITIONS), max_size=8)
REACHED = some.fixed_dictionaries({"a": POSITIONS, "b": POSITIONS})


@given(BATCHES, REACHED)
def test_the_newest_of_each_key_is_worked_if_it_is_newer_than_what_was_reached(
    batch: list[KeyedSnapshot], reached: dict[str, Position]
) -> None:
    _, latest = classify_snapshots(batch, reached)
    newest = {
        key: max((snapshot.position for snapshot in batch if snapshot.key == key), default=at)
        for key, at in reached.items()
    }
    assert {key: batch[place].position for key, place in latest.items()} == {
        key: position for key, position in newest.items() if position > reached[key]
    }


@given(BATCHES, REACHED)
def test_a_copy_is_a_duplicate_and_an_older_one_is_superseded(
    batch: list[KeyedSnapshot], reached: dict[str, Position]
) -> None:
    outcomes, _ = classify_snapshots(batch, reached)
    last = dict(reached)
    for snapshot, outcome in zip(batch, outcomes, strict=True):
        expected = (
            Effect
            if snapshot.position > last[snapshot.key]
            else Duplicate
            if snapshot.position == last[snapshot.key]
            else Superseded
        )
        assert type(outcome) is expected
        last[snapshot.key] = max(last[snapshot.key], snapshot.position)


@given(BATCHES, REACHED)
def test_a_batch_classified_twice_has_nothing_new(
    batch: list[KeyedSnapshot], reached: dict[str, Position]
) -> None:
    _, latest = classify_snapshots(batch, reached)
    after = reached | {key: batch[place].position for key, place in latest.items()}
    assert classify_snapshots(batch, after)[1] == {}
