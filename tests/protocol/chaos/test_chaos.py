"""What `make chaos` runs: SEED decides the faults, MINUTES how long they go on."""

from __future__ import annotations

import os

import pytest

from tests.protocol.chaos.__main__ import show
from tests.protocol.chaos.run import run

SEED = int(os.environ.get("SEED", "1"))
MINUTES = float(os.environ.get("MINUTES", "6"))


@pytest.mark.chaos
@pytest.mark.parametrize("brokers", [1, 3])
def test_no_sequence_of_faults_breaks_a_law(brokers: int) -> None:
    tallies = run(SEED, MINUTES * 60, brokers, lambda line: print(line, flush=True))
    assert show(brokers, SEED, tallies) == 0
