"""Mutation tests: without its rule, each law must fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.laws import test_lane_laws as lanes
from tests.protocol.laws import test_process_laws as processes
from tests.protocol.laws.concurrent_laws import alone
from tests.protocol.laws.kafka_system import KafkaSystem
from tests.protocol.laws.mutations import MUTATIONS, Mutation, seen_to_fail
from tests.protocol.toy import mutate

IN_PROCESSES: dict[str, Callable[[KafkaSystem], None]] = {
    "transactions_may_idle": (
        processes.test_a_process_stopped_inside_its_transaction_blocks_no_other
    ),
    "the_groups_offset_is_believed": (
        lanes.test_a_lane_that_an_operator_rewinds_works_everything_again_and_doubles_nothing
    ),
}


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=lambda mutation: f"{mutation.rule}-{mutation.name}"
)
def test_without_a_rule_its_law_fails(mutation: Mutation) -> None:
    assert seen_to_fail(mutation)


@alone
@pytest.mark.chaos
@pytest.mark.parametrize("name", mutate.MUTATIONS)
def test_without_a_rule_in_the_processes_its_law_fails(
    kafka_system: KafkaSystem, name: str
) -> None:
    kafka_system.mutation = name
    with pytest.raises(Exception):  # noqa: B017 - however it shows: a broken law, a run without rest, a crash
        IN_PROCESSES[name](kafka_system)
