"""`python -m tests.protocol.chaos --seed 7 --minutes 10`: seeded faults on one broker and on three,
and a table at the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tests.protocol.chaos.run import Tally, run


def show(brokers: int, seed: int, tallies: Mapping[str, Tally]) -> int:
    """Print the results. Returns the number of violations."""
    table = Table(title=f"{brokers} broker(s), seed {seed}")
    for heading in ("fault", "runs", "violations", "recovery s, median", "worst"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for name, tally in sorted(tallies.items()):
        seconds = tally.recoveries_s
        median, worst = f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"
        table.add_row(name.replace("_", " "), str(tally.runs), str(tally.violations), median, worst)
    Console(width=120).print(table)
    return sum(tally.violations for tally in tallies.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and their order")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each number of brokers")
    parser.add_argument("--brokers", type=int, nargs="*", default=[1, 3])
    arguments = parser.parse_args()
    violations = 0
    for brokers in arguments.brokers:
        tallies = run(
            arguments.seed, arguments.minutes * 60, brokers, lambda line: print(line, flush=True)
        )
        violations += show(brokers, arguments.seed, tallies)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
