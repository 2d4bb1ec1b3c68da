"""A process with the ceilings of a campaign's start: what has never been laid out may eat all time
and memory there is.

The parent hears a line of JSON for each thing that happened, and what was at work when the process
ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.sandbox.limits import (
    BYTES_MAX,
    SECONDS_MAX,
    SandboxLimits,
    is_over_limit,
    limit_process,
    renew_cpu_limit,
)
from services.delivery.printing.tools import samples
from services.delivery.printing.tools.checks import DesignCheck
from services.delivery.printing.tools.previews import preview
from services.delivery.printing.tools.proof import DesignProof
from services.delivery.printing.tools.target import DesignTarget, variants_of

Progress = dict[str, Any]
Emit = Callable[[Progress], None]


def run_isolated(
    work: str, target: DesignTarget, plate_cache: PlateCache, **more: object
) -> Iterator[Progress]:
    """What the process tells, as it comes; the last is a fault if it did not end well."""
    task = {
        "work": work,
        "name": target.name,
        "folder": str(target.folder or ""),
        "shelf": str(plate_cache.folder),
        **more,
    }
    at = ""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:  # both were asked for
            return
        with suppress(BrokenPipeError):  # it is told below why it ended
            process.stdin.write(json.dumps(task).encode())
            process.stdin.close()
        for line in process.stdout:
            told: Progress = json.loads(line)
            at = told.get("at", at)
            yield told
        if process.wait():
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            yield {"kind": "fault", "text": describe_end(target.name, process.returncode, last, at)}


def describe_end(name: str, code: int, last: list[str], at: str) -> str:
    where, said = f" ({at})" if at else "", (last or ["it said nothing"])[0]
    if is_over_limit(code, said):
        return (
            f"{name}: {SandboxLimits().told()}{where}: leave out what is large, repeated or "
            "nested deeply; nothing behind it was checked"
        )
    return f"{name}: WeasyPrint failed on it{where}: {said[:500]}"


def main() -> None:
    task = json.load(sys.stdin)
    memory, seconds = task.get("bytes_max") or BYTES_MAX, task.get("seconds_max") or SECONDS_MAX
    limit_process(memory)

    def tell(told: Progress) -> None:
        if "at" in told:
            renew_cpu_limit(seconds)
        print(json.dumps(told), flush=True)  # noqa: T201 - the answer to the parent

    renew_cpu_limit(seconds)
    try:
        WORK[task["work"]](task, tell)
    except DesignUnusable as error:
        tell({"kind": "fault", "text": error.cause})


def check(task: Mapping[str, Any], tell: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    every = variants_of(design, task["size"], task["language"])
    it = DesignCheck(PlateCache(Path(task["shelf"])), lambda at: tell({"at": at}))
    for finding in it.run(design, every):
        tell(asdict(finding))
    tell({"pages": it.pages, "codes": it.codes})


def write_previews(task: Mapping[str, Any], tell: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    every = variants_of(design, task["size"], task["language"] or design.manifest.languages[0])
    for one in every:
        tell({"at": f"{one.size}, {one.language}"})
        try:
            for path in preview(one, PlateCache(Path(task["shelf"])), Path(task["out"])):
                tell({"file": str(path), "size": one.size, "language": one.language})
        except DesignUnusable as error:
            tell({"kind": "fault", "text": error.cause, "size": one.size, "language": one.language})


def compile_only(task: Mapping[str, Any], tell: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    for one in variants_of(design, task["size"], task["language"]):
        tell({"at": f"{one.size}, {one.language}"})
        DesignProof(one, samples.facts(design, one.language), PlateCache(Path(task["shelf"])))


def campaign(task: Mapping[str, Any], tell: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    it = DesignCheck(PlateCache(Path(task["shelf"])), lambda at: tell({"at": at}))
    for finding in it.campaign(
        DesignVariant(design, task["size"], task["language"]), CampaignFacts(**task["facts"])
    ):
        tell(asdict(finding))


WORK: dict[str, Callable[[Mapping[str, Any], Emit], None]] = {
    "check": check,
    "campaign": campaign,
    "preview": write_previews,
    "compile": compile_only,
}

if __name__ == "__main__":
    main()
