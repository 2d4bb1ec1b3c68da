"""Places become numbers: each once, and the next one cannot be guessed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from services.issuer.rules.numbers import format_number, permute

KEYS = some.binary(min_size=32, max_size=32)


@pytest.mark.feature("SF-159", "SF-160")
@given(some.integers(1, 400), KEYS)
def test_a_permutation_uses_each_number_of_its_range_once(size: int, key: bytes) -> None:
    assert sorted(permute(place, size, key) for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [*range(1, 40), 997, 1_000, 1_024, 4_097])
def test_it_does_so_for_sizes_at_every_edge(size: int) -> None:
    assert {permute(place, size, b"k" * 32) for place in range(size)} == set(range(size))


@given(some.integers(1, 10**9), KEYS, some.data())
@settings(max_examples=200)
def test_two_places_of_a_large_range_never_meet_and_stay_within(
    size: int, key: bytes, data: some.DataObject
) -> None:
    one, other = (data.draw(some.integers(0, size - 1)) for _ in range(2))
    first, second = permute(one, size, key), permute(other, size, key)
    assert 0 <= first < size
    assert (first == second) == (one == other)


@pytest.mark.feature("SF-161")
def test_another_key_gives_another_sequence_and_the_same_key_the_same() -> None:
    runs = [
        [permute(place, 100_000, bytes([run]) * 32) for place in range(50)] for run in (1, 2, 1)
    ]
    assert runs[0] == runs[2]
    assert len(set(runs[0]) & set(runs[1])) < 5


@pytest.mark.feature("SF-161")
def test_neighbouring_places_are_not_neighbours() -> None:
    numbers = [permute(place, 1_000_000, b"q" * 32) for place in range(2_000)]
    steps = [abs(later - earlier) for earlier, later in pairwise(numbers)]
    assert min(steps) >= 1
    assert sum(step < 1_000 for step in steps) < 20  # four are expected of random numbers
    assert 400_000 < sum(numbers) / len(numbers) < 600_000


@pytest.mark.parametrize("place", [-1, 10])
def test_a_place_outside_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        permute(place, 10, b"k" * 32)


@pytest.mark.feature("SF-033", "SF-041")
@pytest.mark.parametrize(
    ("prefix", "padding", "number", "printed"),
    [
        ("", 4, 1, "0001"),
        ("RFL-", 4, 1, "RFL-0001"),
        ("", 1, 7, "7"),
        ("G", 3, 12_345, "G12345"),
        ("", 4, 0, "0000"),
    ],
)
def test_a_number_is_printed_with_prefix_and_padding(
    prefix: str, padding: int, number: int, printed: str
) -> None:
    assert format_number(prefix, padding, number) == printed


@given(some.text(max_size=5), some.integers(1, 8), some.integers(0, 10**9), some.integers(0, 10**9))
def test_two_numbers_never_print_the_same(prefix: str, padding: int, one: int, other: int) -> None:
    assert (format_number(prefix, padding, one) == format_number(prefix, padding, other)) == (
        one == other
    )
