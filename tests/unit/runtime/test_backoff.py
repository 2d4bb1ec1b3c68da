"""Laws of the delay after failures, of a loop's backoff, and of the circuit breaker."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from services.runtime.failures.backoff import FIRST_S, SUCCESS_S, Backoff, ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker
from services.runtime.testing.clock import FakeClock

DELAYS = some.builds(
    lambda first_s, factor: ExponentialDelay(first_s, first_s * factor),
    some.floats(0.001, 3_600),
    some.floats(1, 1e6),
)
FAILURES = some.integers(1, 200) | some.integers(1, 10**30)
JITTER = some.floats(0, 1)


@given(DELAYS, FAILURES, JITTER)
@example(ExponentialDelay(0.1, 5.0), 10**30, 1.0)
def test_a_delay_is_at_most_the_longest_and_at_least_half_of_the_first(
    delay: ExponentialDelay, failures: int, jitter: float
) -> None:
    full_s = delay.delay_s(failures)
    assert delay.first_s <= full_s <= delay.longest_s
    assert full_s / 2 <= delay.delay_s(failures, jitter) <= full_s


@given(DELAYS, FAILURES)
def test_without_jitter_a_delay_never_shrinks(delay: ExponentialDelay, failures: int) -> None:
    assert delay.delay_s(failures) <= delay.delay_s(failures + 1)


@given(DELAYS)
def test_a_delay_doubles_until_it_is_the_longest(delay: ExponentialDelay) -> None:
    assert delay.delay_s(1) == delay.first_s
    for failures in range(1, 25):
        assert delay.delay_s(failures + 1) == min(delay.longest_s, 2 * delay.delay_s(failures))
    assert delay.delay_s(10**9) == delay.longest_s


def test_a_loop_forgets_its_failures_after_a_time_without_one() -> None:
    backoff = Backoff(5.0, lambda: 0.0)
    delay_s = [backoff.record_failure("code", 0.0) for _ in range(3)][-1]
    assert delay_s == 4 * FIRST_S
    assert backoff.remaining(0.1) == pytest.approx(delay_s - 0.1)
    assert backoff.remaining(delay_s) == 0
    backoff.record_success(2 * delay_s + SUCCESS_S)
    assert (backoff.failures, backoff.code) == (3, "code")
    backoff.record_success(2 * delay_s + SUCCESS_S + 0.01)
    assert (backoff.failures, backoff.code) == (0, "")


def test_a_loop_forgets_its_failures_at_a_commit() -> None:
    backoff = Backoff(5.0, lambda: 0.0)
    backoff.record_failure("code", 0.0)
    backoff.reset()
    assert (backoff.failures, backoff.code) == (0, "")
    assert backoff.record_failure("code", 0.0) == FIRST_S


def test_a_server_that_fails_is_called_again_by_one_after_a_growing_delay_until_that_succeeds() -> (
    None
):
    clock = FakeClock()
    breaker = CircuitBreaker(3, ExponentialDelay(1.0, 8.0), clock, lambda: 0.0)
    for _ in range(2):
        breaker.failed()
    assert (breaker.allows(4), breaker.openness) == (4, 0.0)
    delays_s = []
    for _ in range(5):
        breaker.failed()
        assert (breaker.allows(4), breaker.openness) == (0, 1.0)
        delays_s.append(breaker.wait_s)
        clock.now += breaker.wait_s
        assert (breaker.allows(4), breaker.openness) == (1, 0.5)
    assert delays_s == [1.0, 2.0, 4.0, 8.0, 8.0]
    breaker.succeeded()
    assert (breaker.allows(4), breaker.openness) == (4, 0.0)


def test_a_failure_that_no_other_try_can_end_opens_the_breaker_at_once() -> None:
    breaker = CircuitBreaker(3, ExponentialDelay(1.0, 8.0), FakeClock(), lambda: 0.0)
    breaker.failed(at_once=True)
    assert breaker.allows(4) == 0
