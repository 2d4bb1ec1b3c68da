"""Whose fault is it? Each SQLSTATE has one answer, and what is nobody's known fault never becomes a dead letter."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from
from psycopg import errors

from services.runtime.postgres.connection import Fault, classify

STATES = {
    "08006": Fault.WORLD,
    "53300": Fault.WORLD,
    "57P01": Fault.WORLD,
    "57014": Fault.WORLD,
    "58030": Fault.WORLD,
    "XX000": Fault.WORLD,
    "25006": Fault.WORLD,
    "40001": Fault.MOMENT,
    "40P01": Fault.MOMENT,
    "55P03": Fault.MOMENT,
    "25P03": Fault.MOMENT,
    "25P04": Fault.SLOW,
    "22001": Fault.RECORD,
    "22P05": Fault.RECORD,
    "23505": Fault.RECORD,
    "23514": Fault.RECORD,
    "42P01": Fault.OURS,
    "42501": Fault.OURS,
    "28P01": Fault.OURS,
    "3D000": Fault.OURS,
    "3F000": Fault.OURS,
    "0A000": Fault.OURS,
    "26000": Fault.OURS,
    "25P02": Fault.OURS,
    "P0001": Fault.OURS,
}


@pytest.mark.parametrize(("state", "fault"), STATES.items())
def test_each_state_is_somebodys(state: str, fault: Fault) -> None:
    assert classify(errors.lookup(state)("")) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.OperationalError("the connection is closed"), Fault.WORLD),
        (errors.ConnectionTimeout("connection timeout expired"), Fault.WORLD),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), Fault.RECORD),
        (psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"), Fault.OURS),
        (psycopg.InterfaceError("the cursor is closed"), Fault.OURS),
        (ConnectionResetError(), Fault.WORLD),
        (TimeoutError(), Fault.WORLD),
        (ValueError(), Fault.RECORD),
        (RecursionError(), Fault.RECORD),
        (KeyboardInterrupt(), Fault.OURS),
    ],
)
def test_without_a_state_the_kind_decides(error: BaseException, fault: Fault) -> None:
    assert classify(error) is fault


@given(sampled_from([name for name in dir(errors) if hasattr(getattr(errors, name), "sqlstate")]))
def test_only_data_and_constraints_are_a_records_fault(name: str) -> None:
    kind = getattr(errors, name)
    if kind.sqlstate and classify(kind("")) is Fault.RECORD:
        assert kind.sqlstate[:2] in {"22", "23"}
