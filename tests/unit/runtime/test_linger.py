"""When a batch is committed: at once where nothing else comes, soon where more comes, and never
later than the linger.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.runtime.loop.linger import QUIET_S, BatchLinger

LINGER_S = 0.1


def test_the_first_record_after_a_quiet_time_does_not_wait() -> None:
    linger = BatchLinger(LINGER_S)
    linger.observe(1, has_arrived=True, now=5.0)
    assert linger.remaining(5.0) == 0
    linger.committed()
    linger.observe(1, has_arrived=True, now=5.0 + QUIET_S)
    assert linger.remaining(5.0 + QUIET_S) == 0


def test_the_next_records_wait_for_others_and_not_longer_for_those_that_come() -> None:
    linger = BatchLinger(LINGER_S)
    linger.observe(1, has_arrived=True, now=5.0)
    linger.committed()
    linger.observe(1, has_arrived=True, now=5.5)
    linger.observe(2, has_arrived=True, now=5.55)
    assert linger.remaining(5.55) == pytest.approx(LINGER_S - 0.05)
    assert linger.remaining(5.5 + LINGER_S) == 0


def test_what_a_full_batch_left_does_not_wait_again() -> None:
    linger = BatchLinger(LINGER_S)
    linger.observe(9, has_arrived=True, now=5.0)
    linger.committed()
    linger.observe(2, has_arrived=False, now=5.01)
    assert linger.remaining(5.01) == 0


def test_a_batch_whose_lanes_were_lost_is_gathered_again() -> None:
    linger = BatchLinger(LINGER_S)
    linger.observe(1, has_arrived=True, now=5.0)
    linger.committed()
    linger.observe(1, has_arrived=True, now=5.2)
    linger.observe(0, has_arrived=False, now=5.25)
    linger.observe(1, has_arrived=True, now=5.4)
    assert linger.remaining(5.4) == pytest.approx(LINGER_S)


@given(some.lists(some.floats(0, 3), min_size=1, max_size=30))
def test_no_record_waits_longer_than_the_linger(gaps: list[float]) -> None:
    """Whenever records come, and with an iteration whenever the batch is due."""
    linger, now, oldest = BatchLinger(LINGER_S), 100.0, None
    for gap in gaps:
        arrives_at = now + gap
        while oldest is not None and now + linger.remaining(now) <= arrives_at:
            now += linger.remaining(now)
            assert now - oldest <= LINGER_S + 1e-9
            linger.committed()
            oldest = None
        now = arrives_at
        oldest = now if oldest is None else oldest
        linger.observe(1, has_arrived=True, now=now)
