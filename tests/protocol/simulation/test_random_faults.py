"""Laws that hold under any sequence of faults: random runs on the in-memory broker and database."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.protocol.simulation.simulation import Simulation
from tests.protocol.simulation.two_stages import MIDDLE

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "300"))
FIRST_SEED = int(os.environ.get("SIMULATION_FIRST_SEED", "0"))


def run(seed: int) -> Simulation:
    simulation = Simulation(seed)
    for _ in range(simulation.random.randint(40, 160)):
        for _ in range(simulation.random.randint(0, 4)):
            simulation.send()
        if simulation.random.random() < 0.35:
            simulation.break_something()
        simulation.step()
    simulation.heal()
    simulation.settle()
    return simulation


def check(simulation: Simulation) -> None:
    tables = simulation.database.tables
    wanted = {text.split(" ")[0] for text in simulation.sent if text}
    effects = tables.get("effects", {})
    assert effects == dict.fromkeys(wanted, 1), "each id has its effect, once"
    first = {key: tuple(row["ids"]) for key, row in tables.get("first", {}).items() if row["ids"]}
    second = {key: ids for key, (_, _, ids) in tables.get("second", {}).items()}
    assert second == first, "the next stage knows what this one committed"
    last = {key: row["sequence"] for key, row in tables.get("first", {}).items() if row["ids"]}
    assert {key: sequence for key, (_, sequence, _) in tables.get("second", {}).items()} == last
    gaps = {
        key: row.conservation_gap
        for key, row in simulation.database.rows.items()
        if row.conservation_gap
    }
    assert not gaps, "each consumed record has one outcome"
    dead_letters = [row.dead_letter.record for row in simulation.database.dead_letters.values()]
    assert len(dead_letters) == simulation.poison, "each poison record is one dead letter"
    source = Counter(
        (record.topic, record.partition, record.offset, record.value)
        for topic in ("a.v1", "b.v1")
        for record in simulation.broker.records(topic)
    )
    assert all(
        source[dead_letter.topic, dead_letter.partition, dead_letter.offset, dead_letter.value] == 1
        for dead_letter in dead_letters
    )
    assert all(list(dead_letter.headers) == [("source", b"\0\xff")] for dead_letter in dead_letters)
    published = {(record.key, record.value) for record in simulation.broker.records(MIDDLE)}
    assert len(published) == sum(last.values()), (
        "every committed snapshot is published, and no other"
    )


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS, 10))
def test_no_sequence_of_faults_loses_doubles_or_invents_anything(seed: int) -> None:
    for one in range(seed, min(seed + 10, FIRST_SEED + SEEDS)):
        check(run(one))
