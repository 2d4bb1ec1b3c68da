"""When sources are polled: waits, the circuit breaker, alternation; and which response leads to
which.
"""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clients.http import MalformedResponseError
from services.ingest.poller.workers import PollFailure, failure_of
from services.ingest.rules.polling import (
    DENIED_RETRY_S,
    FAILURE_DELAY,
    FAILURES_TO_OPEN,
    PAGE_MAX,
    PAGE_MIN,
    RETRY_AFTER_MAX_S,
    PollProblem,
    after_failure,
    choose_requests,
    interval,
    page_size,
    retry_after,
)
from services.ingest.vendors.shared.poll import OrderMissingError

NOW = 1_795_188_608.0  # Fri, 20 Nov 2026 15:30:08 GMT
RANDOMNESS = st.floats(0, 1)


@given(st.integers(1, 10_000), RANDOMNESS)
def test_waits_grow_up_to_a_ceiling_and_never_end_at_once(failures: int, jitter: float) -> None:
    delay_s = FAILURE_DELAY.delay_s(failures, jitter)
    assert 5 <= delay_s <= 900
    assert delay_s <= FAILURE_DELAY.delay_s(failures + 1, jitter)


@given(st.floats(1, 86_400), RANDOMNESS)
def test_intervals_are_jittered_and_a_walk_goes_on_at_once(every_s: float, jitter: float) -> None:
    assert 0.89 * every_s <= interval(every_s, is_last=True, jitter=jitter) <= 1.11 * every_s
    assert interval(every_s, is_last=False, jitter=jitter) == 0


def test_the_circuit_breaker_of_a_failing_source_stays_open_longer_each_time() -> None:
    waits, failures = list[float](), 0
    for _ in range(FAILURES_TO_OPEN + 8):
        state = after_failure(PollProblem.UNAVAILABLE, 0, failures)
        failures = state.source_failures
        waits.append(state.source_s)
    assert waits[: FAILURES_TO_OPEN - 1] == [0.0] * (FAILURES_TO_OPEN - 1)
    assert all(waits[FAILURES_TO_OPEN - 1 :])
    assert waits[FAILURES_TO_OPEN - 1 :] == sorted(waits[FAILURES_TO_OPEN - 1 :])
    assert waits[-1] == FAILURE_DELAY.longest_s


def test_each_problem_delays_what_it_must() -> None:
    denied = after_failure(PollProblem.DENIED, 0, 2)
    assert (denied.poll_s, denied.source_s, denied.source_failures, denied.is_suspended) == (
        DENIED_RETRY_S,
        0,
        2,
        True,
    )
    malformed = after_failure(PollProblem.MALFORMED, 0, 2)
    assert (malformed.source_s, malformed.source_failures) == (0, 2)
    slowed = after_failure(PollProblem.RATE_LIMITED, 0, 0, retry_after_s=77)
    assert (slowed.poll_s, slowed.source_s) == (77, 77)
    assert after_failure(PollProblem.RATE_LIMITED, 0, 0).source_s > 0
    assert after_failure(PollProblem.RATE_LIMITED, 4, 0, retry_after_s=0).source_s > 60
    assert after_failure(PollProblem.UNAVAILABLE, 0, 0, retry_after_s=30).source_s == 30


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("99999999999999999999", RETRY_AFTER_MAX_S),
        ("Fri, 20 Nov 2026 15:30:38 GMT", 30),
        ("Fri, 20 Nov 2026 15:00:00 GMT", 0),
        ("Fri, 20 Nov 2037 15:00:00 GMT", RETRY_AFTER_MAX_S),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Fri, 99 Nov 2026 15:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


@given(st.lists(st.booleans(), max_size=200))
def test_a_page_is_smaller_after_what_was_too_much_and_grows_again_slowly(
    answers: list[bool],
) -> None:
    size = PAGE_MAX
    for is_too_much in answers:
        after = page_size(size, is_too_much=is_too_much)
        assert PAGE_MIN <= after <= PAGE_MAX
        assert after < size or size == PAGE_MIN if is_too_much else size <= after <= size + 2
        size = after


@given(st.text(max_size=60))
def test_whatever_stands_in_retry_after_is_a_bounded_wait_or_none(text: str) -> None:
    delay_s = retry_after(text, NOW)
    assert delay_s is None or 0 <= delay_s <= RETRY_AFTER_MAX_S


def test_each_source_has_one_request_and_order_fetches_alternate_with_polls() -> None:
    due = [("shop", 1), ("shop", 2), ("tevo", 3)]
    assert choose_requests(due, ["tevo", "other"], [], []) == [
        ("other", None),
        ("shop", 1),
        ("tevo", None),
    ]
    assert choose_requests(due, ["tevo"], [], ["tevo"]) == [("shop", 1), ("tevo", 3)]
    assert choose_requests(due, ["tevo"], ["shop"], []) == [("tevo", None)]
    assert choose_requests([], ["tevo"], [], ["tevo"]) == [("tevo", None)]


def status(code: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://shop.example.org/?consumer_secret=never-logged")
    answer = httpx.Response(
        code,
        request=request,
        headers={header.replace("_", "-"): text for header, text in headers.items()},
    )
    return httpx.HTTPStatusError(f"{code} for {request.url}", request=request, response=answer)


@pytest.mark.parametrize(
    ("error", "problem", "wait_s"),
    [
        (status(500), PollProblem.UNAVAILABLE, None),
        (status(503), PollProblem.UNAVAILABLE, None),
        (status(502, retry_after="9"), PollProblem.UNAVAILABLE, 9),
        (status(503, retry_after="9"), PollProblem.RATE_LIMITED, 9),
        (status(429, retry_after="7"), PollProblem.RATE_LIMITED, 7),
        (status(429), PollProblem.RATE_LIMITED, None),
        (status(401), PollProblem.DENIED, None),
        (status(403), PollProblem.DENIED, None),
        (status(404), PollProblem.MISSING, None),
        (status(302), PollProblem.MALFORMED, None),
        (status(400), PollProblem.MALFORMED, None),
        (httpx.ConnectError("never-logged"), PollProblem.UNAVAILABLE, None),
        (httpx.ReadTimeout("never-logged"), PollProblem.UNAVAILABLE, None),
        (OrderMissingError(), PollProblem.MISSING, None),
        (MalformedResponseError("the response is not JSON"), PollProblem.MALFORMED, None),
        (ValueError("never-logged"), PollProblem.MALFORMED, None),
        (KeyError("never-logged"), PollProblem.MALFORMED, None),
    ],
)
def test_a_failure_is_reported_without_what_was_sent_or_answered(
    error: Exception, problem: PollProblem, wait_s: float | None
) -> None:
    failure = failure_of(error, NOW)
    assert failure == PollFailure(problem, failure.text, wait_s)
    assert failure.text
    assert "never-logged" not in failure.text
