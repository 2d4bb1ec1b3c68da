"""Laws of an incident's id: the same cause is one, whatever varies in it, and in whichever order
its evidence comes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import vendors
from services.ingest.errors import CallbackMisaddressed
from services.ingest.rules.incidents import (
    FINGERPRINT_CHARS_MAX,
    NUMBER_PATTERN,
    EvidenceKind,
    EvidenceRow,
    fingerprint,
    group_by_cause,
    incident_id,
    source_of,
)
from tests.support.callbacks import native, native_order

AT = datetime(2026, 11, 20, tzinfo=UTC)
NUMBERS = st.integers(0, 10**12).map(str)


@given(st.text(), st.data())
def test_two_causes_that_differ_in_numbers_only_are_one(text: str, data: st.DataObject) -> None:
    cause = f"line_items.3.quantity: {text} 7"
    other = NUMBER_PATTERN.sub(lambda _match: data.draw(NUMBERS), cause)
    assert fingerprint(other) == fingerprint(cause)


@given(
    st.lists(st.sampled_from(["id: Field required", "total: too long", "sku: é"]), min_size=1),
    st.randoms(),
)
def test_an_error_at_one_line_and_at_many_is_one(faults: list[str], rng: Random) -> None:
    many = [f"line_items.{at}.{fault}" for at, fault in enumerate(faults * 3)]
    rng.shuffle(many)
    once = sorted({f"line_items.0.{fault}" for fault in faults})
    assert fingerprint("; ".join(many)) == fingerprint("; ".join(once))
    assert fingerprint("; ".join([*many, "and 12 more"])) == fingerprint("; ".join(once))


@given(st.text(max_size=3_000))
def test_a_fingerprint_is_bounded_and_has_no_number(cause: str) -> None:
    assert len(fingerprint(cause)) <= FINGERPRINT_CHARS_MAX
    assert not NUMBER_PATTERN.search(fingerprint(cause))


def test_different_words_are_another_cause() -> None:
    assert fingerprint("total: Field required") != fingerprint("currency: Field required")


@given(st.lists(st.uuids().map(str), min_size=2, unique=True))
def test_orders_under_wrong_keys_are_one_whatever_they_are_called(order_ids: list[str]) -> None:
    causes = set[str]()
    for order_id in order_ids:
        with pytest.raises(CallbackMisaddressed) as raised:
            vendors.parse(native(native_order(order_id=order_id), order="another"))
        causes.add(fingerprint(raised.value.cause))
        assert raised.value.wanted == f"shop:{order_id}"
    assert len(causes) == 1


def test_an_id_is_short_and_keeps_its_parts_separate() -> None:
    names = {
        incident_id("a", "b", "c"),
        incident_id("ab", "", "c"),
        incident_id("a", "bc", ""),
        incident_id("", "ab", "c"),
    }
    assert {len(name) for name in names} == {12}
    assert len(names) == 4
    # the same in every release, because people keep ids in their notes
    assert incident_id("a", "b", "c") == "8badde10c760"


@pytest.mark.parametrize(
    ("origin", "source"), [("/sources/shop", "shop"), ("shop", "shop"), ("", "?"), ("/x", "/x")]
)
def test_a_source_is_named_as_the_sources_file_names_it(origin: str, source: str) -> None:
    assert source_of(origin) == source


EVIDENCE = st.builds(
    EvidenceRow,
    evidence=st.just(EvidenceKind.DEAD_LETTERS),
    source=st.sampled_from(["shop", "pay"]),
    kind=st.just("ingest-callback-unreadable"),
    cause=st.sampled_from(["total: Field required", "id: Field required"]),
    count=st.integers(1, 10_000),
    first_at=st.integers(0, 9).map(lambda s: AT + timedelta(seconds=s)),
    last_at=st.integers(10, 19).map(lambda s: AT + timedelta(seconds=s)),
    example=NUMBERS,
    origin=st.sampled_from(["shop", "/sources/shop"]),
    is_open=st.booleans(),
    waiting=st.integers(0, 5),
)


@given(st.lists(EVIDENCE), st.randoms())
def test_the_order_in_which_the_evidence_comes_does_not_matter(
    evidence_rows: list[EvidenceRow], rng: Random
) -> None:
    shuffled = list(evidence_rows)
    rng.shuffle(shuffled)
    grouped = group_by_cause(evidence_rows)
    assert list(grouped.items()) == list(group_by_cause(shuffled).items())
    assert sum(incident.count for incident in grouped.values()) == sum(
        incident.count for incident in evidence_rows
    )
    assert sum(incident.waiting for incident in grouped.values()) == sum(
        incident.waiting for incident in evidence_rows
    )
    assert [incident.count for incident in grouped.values()] == sorted(
        (incident.count for incident in grouped.values()), reverse=True
    )
    assert len(grouped) == len(
        {(evidence_row.source, evidence_row.cause) for evidence_row in evidence_rows}
    )
