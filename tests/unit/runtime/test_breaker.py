"""Laws of the failure rate breaker: half of the last records, wherever they are in a batch."""

from __future__ import annotations

import pytest

from services.runtime.errors import FailureRateExceeded, Poison, UnexpectedError
from services.runtime.loop.breaker import FailureRateBreaker
from services.runtime.records import Dead, Effect, Outcome

RAISED, POISON, GOOD = Dead(UnexpectedError("x"), unexpected=True), Dead(Poison("x")), Effect()


@pytest.mark.parametrize("good", [0, 101, 200, 5_000])
def test_good_records_at_a_batchs_end_hide_none_before_them(good: int) -> None:
    batch: list[Outcome] = [*[RAISED] * 800, *[GOOD] * good]
    with pytest.raises(FailureRateExceeded):
        FailureRateBreaker(200, 0.5).check(batch)


def test_half_of_the_window_opens_the_breaker_and_less_does_not() -> None:
    mixed: list[Outcome] = [RAISED, GOOD, GOOD] * 300
    assert sum(FailureRateBreaker(200, 0.5).check(mixed)) == 300
    with pytest.raises(FailureRateExceeded):
        FailureRateBreaker(200, 0.5).check([RAISED, GOOD] * 100)


def test_what_was_committed_counts_with_what_comes() -> None:
    breaker = FailureRateBreaker(200, 0.5)
    breaker.record(breaker.check([RAISED] * 60))
    with pytest.raises(FailureRateExceeded):
        breaker.check([RAISED] * 40)
    breaker.reset()
    assert sum(breaker.check([RAISED] * 40)) == 40


def test_expected_poison_never_opens_the_breaker() -> None:
    assert FailureRateBreaker(200, 0.5).check([POISON] * 1_000) == [False] * 1_000
