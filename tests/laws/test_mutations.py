"""Each law was seen to fail: with its rule taken out, it must notice."""

from __future__ import annotations

import pytest

from tests.laws.mutations import MUTATIONS, Mutation, seen_to_fail


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.rule}-{mutation.name}")
def test_a_rule_taken_out_is_noticed(mutation: Mutation) -> None:
    assert seen_to_fail(mutation)
