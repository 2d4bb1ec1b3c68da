"""`make bench`: everything, on a stack of its own unless the environment names servers."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from deploy.local.stack import Stack
from tests.benchmarks import lanes
from tests.benchmarks.report import show


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--records", type=int, default=200_000)
    given = parser.parse_args()
    with ExitStack() as stack:
        if not {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"} <= os.environ.keys():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stubline-bench-"))
            os.environ.update(stack.enter_context(Stack(Path(folder))).environment)
        subprocess.run(
            [str(Path(sys.executable).with_name("stubline")), "migrate"], check=True, stdout=subprocess.DEVNULL
        )
        bench = lanes.open_bench(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["DATABASE_URL"])
        figures = lanes.figures(bench, records=given.records, runs=given.runs)
    show("Lanes", figures)
    return 0 if all(figure.is_met is not False for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
