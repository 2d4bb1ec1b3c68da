"""What acknowledgements show of this machine's clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.webhooks.clock_skew import WARN_AGAIN_S, ClockSkewMonitor, skew_seconds

whole_seconds = st.integers(0, 10_000).map(float)


@given(whole_seconds, whole_seconds, whole_seconds, st.integers(-5_000, 5_000).map(float))
def test_a_skew_is_never_overstated_and_at_most_the_way_of_the_record_is_missed(
    produced: float, there: float, back: float, ahead: float
) -> None:
    """The way is `there` until the broker stamps, and `back` until the acknowledgement is here."""
    logged = produced + there
    skew_s = skew_seconds(produced + ahead, logged + back + ahead, logged)
    assert abs(skew_s) <= abs(ahead)
    assert skew_s * ahead >= 0
    assert abs(ahead) - abs(skew_s) <= max(there, back)


def test_a_right_clock_shows_none_however_slow_the_acknowledgement() -> None:
    assert skew_seconds(100.0, 160.0, 130.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.0, "3.0 s ahead of Kafka's"), (-3.0, "3.0 s behind Kafka's")]
)
def test_it_is_reported_beyond_its_bound_and_at_most_once_a_minute(
    seconds: float, text: str
) -> None:
    skew = ClockSkewMonitor(2.0)
    assert not skew.is_to_be_reported(0.0)
    skew.measured(1.9)
    assert not skew.is_to_be_reported(0.0)
    assert not skew.warning
    skew.measured(seconds)
    assert skew.warning.endswith(text)
    assert [skew.is_to_be_reported(at) for at in (0.0, 1.0, WARN_AGAIN_S - 1, WARN_AGAIN_S)] == [
        True,
        False,
        False,
        True,
    ]
