"""A token bucket lets through a burst and its rate, and serves a caller that waits."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis.strategies import floats, integers, lists, tuples

from services.runtime.failures.token_bucket import TokenBucket

BURST_S = 2.0
RATES = floats(0.1, 1_000)
ROUNDING = 1e-6
CALLS = lists(tuples(floats(0, 10), integers(1, 20)), min_size=1, max_size=100)


@given(CALLS, RATES, floats(0.01, 5))
def test_takes_at_most_the_burst_and_the_rate_over_any_time(
    calls: list[tuple[float, int]], rate: float, burst_s: float
) -> None:
    bucket = TokenBucket(rate, burst_s)
    times = list(accumulate(wait_s for wait_s, _ in calls))
    taken = [
        tokens if bucket.take(now, tokens) else 0
        for now, (_, tokens) in zip(times, calls, strict=True)
    ]
    for first in range(len(calls)):
        for last in range(first, len(calls)):
            allowed = bucket.capacity + rate * (times[last] - times[first])
            assert sum(taken[first : last + 1]) <= allowed * (1 + ROUNDING)


@given(lists(tuples(floats(0, 10), RATES), min_size=1, max_size=100))
def test_a_changed_rate_counts_from_the_next_call_on(changes: list[tuple[float, float]]) -> None:
    bucket, now, level = TokenBucket(1.0, BURST_S), 0.0, 0.0
    assert bucket.take(now, int(bucket.capacity))
    for wait_s, bucket.rate_per_s in changes:
        now += wait_s
        level = min(level + wait_s * bucket.rate_per_s, bucket.capacity)
        tokens = bucket.available(now)
        assert tokens <= level * (1 + ROUNDING)
        assert bucket.take(now, tokens)
        level -= tokens


@given(RATES, floats(0.01, 5), integers(1, 5_000))
def test_what_the_capacity_covers_is_available_once_its_time_has_passed(
    rate: float, burst_s: float, tokens: int
) -> None:
    bucket = TokenBucket(rate, burst_s)
    assert bucket.take(0.0, int(bucket.capacity))
    wanted = min(tokens, int(bucket.capacity))
    assert bucket.take(wanted / rate * (1 + ROUNDING), wanted)


@given(floats(1, 50))
def test_a_caller_within_the_rate_is_never_refused(rate: float) -> None:
    bucket = TokenBucket(rate, BURST_S)
    assert all(bucket.take(call / rate * (1 + ROUNDING)) for call in range(500))


def test_all_of_the_tokens_are_taken_or_none() -> None:
    bucket = TokenBucket(2, BURST_S)
    assert [bucket.take(0.0, tokens) for tokens in (5, 3, 2, 1, 1)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_reading_what_is_available_takes_no_token() -> None:
    bucket = TokenBucket(1, BURST_S)
    assert [bucket.available(0.0) for _ in range(100)] == [2] * 100


def test_a_clock_that_stands_still_or_goes_back_adds_no_tokens() -> None:
    bucket = TokenBucket(1, BURST_S)
    assert [bucket.take(now) for now in (5.0, 5.0, 4.0, 5.0)] == [True, True, False, False]
