"""Repeats of a callback use up nothing of the rate for new ones, and what is remembered of them is
bounded.
"""

from __future__ import annotations

from services.ingest.webhooks.rate_limit import RECENT_MAX, SourceRateLimits


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
