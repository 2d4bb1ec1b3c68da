"""Laws of classifying failures: each SQLSTATE has one kind, and an unknown one never becomes a dead
letter.
"""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from
from psycopg import errors

from services.runtime.failures.classification import FailureKind, classify_error

STATES = {
    "08006": FailureKind.UNAVAILABLE,
    "53300": FailureKind.UNAVAILABLE,
    "57P01": FailureKind.UNAVAILABLE,
    "57014": FailureKind.UNAVAILABLE,
    "58030": FailureKind.UNAVAILABLE,
    "XX000": FailureKind.UNAVAILABLE,
    "25006": FailureKind.UNAVAILABLE,
    "40001": FailureKind.TRANSIENT,
    "40P01": FailureKind.TRANSIENT,
    "55P03": FailureKind.TRANSIENT,
    "25P03": FailureKind.TRANSIENT,
    "25P04": FailureKind.TOO_SLOW,
    "22001": FailureKind.RECORD,
    "22P05": FailureKind.RECORD,
    "23505": FailureKind.RECORD,
    "23514": FailureKind.RECORD,
    "42P01": FailureKind.DEFECT,
    "42501": FailureKind.DEFECT,
    "28P01": FailureKind.DEFECT,
    "3D000": FailureKind.DEFECT,
    "3F000": FailureKind.DEFECT,
    "0A000": FailureKind.DEFECT,
    "26000": FailureKind.DEFECT,
    "25P02": FailureKind.DEFECT,
    "P0001": FailureKind.DEFECT,
}


@pytest.mark.parametrize(("state", "kind"), STATES.items())
def test_each_state_has_a_kind(state: str, kind: FailureKind) -> None:
    assert classify_error(errors.lookup(state)("")) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("the connection is closed"), FailureKind.UNAVAILABLE),
        (errors.ConnectionTimeout("connection timeout expired"), FailureKind.UNAVAILABLE),
        (
            psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
            FailureKind.RECORD,
        ),
        (
            psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"),
            FailureKind.DEFECT,
        ),
        (psycopg.InterfaceError("the cursor is closed"), FailureKind.DEFECT),
        (ConnectionResetError(), FailureKind.UNAVAILABLE),
        (TimeoutError(), FailureKind.UNAVAILABLE),
        (ValueError(), FailureKind.RECORD),
        (RecursionError(), FailureKind.RECORD),
        (KeyboardInterrupt(), FailureKind.DEFECT),
    ],
)
def test_without_a_state_the_kind_decides(error: BaseException, kind: FailureKind) -> None:
    assert classify_error(error) is kind


@given(sampled_from([name for name in dir(errors) if hasattr(getattr(errors, name), "sqlstate")]))
def test_only_data_and_constraints_are_a_records_fault(name: str) -> None:
    kind = getattr(errors, name)
    if kind.sqlstate and classify_error(kind("")) is FailureKind.RECORD:
        assert kind.sqlstate[:2] in {"22", "23"}
