"""A source sends what its rate allows, on average and in bursts; unauthenticated callers use up
nothing of it.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import floats, lists

from services.ingest.webhooks.rate_limit import BURST_S, RECENT_MAX, SourceRateLimits, TokenBucket

WAITS = lists(floats(0, 10), min_size=1, max_size=200)


@given(WAITS, floats(0.1, 50))
def test_never_more_than_the_burst_and_the_rate_over_any_time(
    waits: list[float], rate: float
) -> None:
    pace, now, remember = TokenBucket(rate), 0.0, 0
    for wait in waits:
        now += wait
        remember += pace.take(now)
        assert remember <= max(1.0, rate * BURST_S) + rate * (now - waits[0]) + 1e-6


@given(floats(1, 50))
def test_a_source_within_its_rate_is_never_refused(rate: float) -> None:
    pace = TokenBucket(rate)
    assert all(pace.take(number / rate * 1.000001) for number in range(500))


def test_checking_for_room_takes_no_token() -> None:
    pace = TokenBucket(1)
    assert all(pace.has_room(0.0) for _ in range(100))
    assert [pace.take(0.0) for _ in range(3)] == [True, True, False]


def test_a_clock_that_stands_still_or_goes_back_adds_no_tokens() -> None:
    pace = TokenBucket(1)
    assert [pace.take(now) for now in (5.0, 5.0, 4.0, 5.0)] == [True, True, False, False]


def test_repeats_use_up_nothing_of_the_rate_for_new_callbacks() -> None:
    limits = SourceRateLimits(5)
    limits.remember(b"seen")
    assert [limits.take(0.0, b"seen") for _ in range(50)].count(True) == 10
    assert all(limits.take(0.0, b"new %d" % number) for number in range(10))
    assert not limits.take(0.0, b"one more")
    assert not limits.has_room(0.0)


def test_repeats_are_accepted_as_fast_as_what_is_new() -> None:
    limits = SourceRateLimits(5)
    for number in range(1, 500):
        assert limits.take(number / 5, b"%d" % number)
        limits.remember(b"%d" % number)
        assert limits.take(number / 5, b"%d" % number)


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten() -> None:
    limits = SourceRateLimits(1e6)
    for number in range(3 * RECENT_MAX):
        limits.remember(b"%d" % number)
    assert len(limits._remembered) == RECENT_MAX
    assert hash(b"0") not in limits._remembered
