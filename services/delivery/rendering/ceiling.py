"""Compiling in a process of its own, with a ceiling of time and of memory: a design that eats both harms nobody else."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.delivery.errors import DesignUnusable
from services.delivery.rendering.compiler import compiled
from services.delivery.rendering.designs import Chosen, Design
from services.delivery.rendering.layout import Sheet
from services.delivery.rendering.pages import Facts
from services.delivery.rendering.shelf import Shelf

SECONDS_MAX = 60
BYTES_MAX = 2 * 2**30
SAID_CHARS_MAX = 2_000
UNUSABLE = "unusable "


@dataclass(frozen=True, slots=True)
class Task:
    """A design for a campaign's facts; its plate goes on the shelf under the key."""

    chosen: Chosen
    facts: Facts
    shelf: Shelf
    key: str

    def told(self) -> dict[str, object]:
        """With the design's bytes: what was chosen is compiled, whatever stands in its folder by now."""
        design = self.chosen.design
        return {
            "name": design.name,
            "contents": {path: b64encode(content).decode() for path, content in design.contents.items()},
            "size": self.chosen.size,
            "language": self.chosen.language,
            "facts": asdict(self.facts),
            "shelf": str(self.shelf.folder),
            "key": self.key,
        }


def compile_apart(task: Task, *, seconds_max: int = SECONDS_MAX, bytes_max: int = BYTES_MAX) -> float:
    """Seconds that it took. Raises DesignUnusable, also for what reached the ceiling."""
    begun, name = time.monotonic(), task.chosen.design.name
    told = task.told() | {"bytes_max": bytes_max, "seconds_max": seconds_max}
    too_much = f"{name}: needs more than {seconds_max} s or {bytes_max // 2**20:,} MiB to be laid out: leave out what is large or nested deeply"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "services.delivery.rendering.ceiling"],
            input=json.dumps(told).encode(),
            capture_output=True,
            timeout=seconds_max + 1,  # a process that only waits uses no processor time
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DesignUnusable(too_much) from None
    if done.returncode == 0:
        return time.monotonic() - begun
    said = done.stdout.decode("utf-8", "replace").strip()[:SAID_CHARS_MAX]
    if said.startswith(UNUSABLE):
        raise DesignUnusable(said.removeprefix(UNUSABLE))
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    if "MemoryError" in last[0] or done.returncode < 0:
        raise DesignUnusable(too_much)
    raise DesignUnusable(f"{name}: WeasyPrint failed on it: {last[0][:500]}")


def main() -> int:
    task = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (task["bytes_max"], task["bytes_max"]))
    resource.setrlimit(resource.RLIMIT_CPU, (task["seconds_max"], task["seconds_max"]))
    try:
        work(task)
    except DesignUnusable as error:
        print(f"{UNUSABLE}{error.cause}")  # noqa: T201 - the answer to the parent
        return 1
    return 0


def work(task: dict[str, Any]) -> None:
    design = Design(task["name"], {path: b64decode(content) for path, content in task["contents"].items()})
    shelf = Shelf(Path(task["shelf"]))
    sheet = Sheet(Chosen(design, task["size"], task["language"]), Facts(**task["facts"]))
    shelf.put_plate(task["key"], compiled(sheet, shelf.kit_of, modules=shelf.stencil().side))


if __name__ == "__main__":
    sys.exit(main())
