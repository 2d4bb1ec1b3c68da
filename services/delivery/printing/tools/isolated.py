"""Runs checks in a process with the limits of a campaign's start, because a design that was never
laid out may exhaust time and memory.

The parent receives a line of JSON for each event, and so knows what was laid out when the process
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
from services.delivery.printing.tools.comparison import DesignComparison
from services.delivery.printing.tools.previews import preview
from services.delivery.printing.tools.target import DesignTarget, variants_of

Progress = dict[str, Any]
Emit = Callable[[Progress], None]


def run_isolated(
    work: str, target: DesignTarget, plate_cache: PlateCache, **more: object
) -> Iterator[Progress]:
    """Yield what the process reports, as it comes; the last is a fault if it did not end well."""
    task = {
        "work": work,
        "name": target.name,
        "folder": str(target.folder or ""),
        "plate_cache": str(plate_cache.folder),
        **more,
    }
    at = ""
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:  # both were requested
            return
        with suppress(BrokenPipeError):  # its end is described below
            process.stdin.write(json.dumps(task).encode())
            process.stdin.close()
        for line in process.stdout:
            progress: Progress = json.loads(line)
            at = progress.get("at", at)
            yield progress
        if process.wait():
            stderr.seek(0)
            last = stderr.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            yield {"kind": "fault", "text": describe_end(target.name, process.returncode, last, at)}


def describe_end(name: str, code: int, last: list[str], at: str) -> str:
    where, line = f" ({at})" if at else "", (last or ["it wrote no error"])[0]
    if is_over_limit(code, line):
        return (
            f"{name}: {SandboxLimits().describe()}{where}: leave out what is large, repeated or "
            "nested deeply; nothing after it was checked"
        )
    return f"{name}: WeasyPrint failed on it{where}: {line[:500]}"


def main() -> None:
    task = json.load(sys.stdin)
    memory, seconds = task.get("bytes_max") or BYTES_MAX, task.get("seconds_max") or SECONDS_MAX
    limit_process(memory)

    def emit(progress: Progress) -> None:
        if "at" in progress:
            renew_cpu_limit(seconds)
        print(json.dumps(progress), flush=True)  # noqa: T201 - the report to the parent

    renew_cpu_limit(seconds)
    try:
        WORK[task["work"]](task, emit)
    except DesignUnusable as error:
        emit({"kind": "fault", "text": error.cause})


def check(task: Mapping[str, Any], emit: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    variants = variants_of(design, task["size"], task["language"])
    run = DesignCheck(PlateCache(Path(task["plate_cache"])), lambda at: emit({"at": at}))
    for finding in run.run(design, variants):
        emit(asdict(finding))
    emit({"pages": run.pages, "codes": run.codes})


def write_previews(task: Mapping[str, Any], emit: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    variants = variants_of(design, task["size"], task["language"] or design.manifest.languages[0])
    for variant in variants:
        emit({"at": f"{variant.size}, {variant.language}"})
        try:
            for path in preview(variant, PlateCache(Path(task["plate_cache"])), Path(task["out"])):
                emit({"file": str(path), "size": variant.size, "language": variant.language})
        except DesignUnusable as error:
            emit(
                {
                    "kind": "fault",
                    "text": error.cause,
                    "size": variant.size,
                    "language": variant.language,
                }
            )


def compile_only(task: Mapping[str, Any], emit: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    for variant in variants_of(design, task["size"], task["language"]):
        emit({"at": f"{variant.size}, {variant.language}"})
        DesignComparison(
            variant, samples.facts(design, variant.language), PlateCache(Path(task["plate_cache"]))
        )


def campaign(task: Mapping[str, Any], emit: Emit) -> None:
    design = DesignTarget(task["name"], Path(task["folder"]) if task["folder"] else None).read()
    run = DesignCheck(PlateCache(Path(task["plate_cache"])), lambda at: emit({"at": at}))
    for finding in run.campaign(
        DesignVariant(design, task["size"], task["language"]), CampaignFacts(**task["facts"])
    ):
        emit(asdict(finding))


WORK: dict[str, Callable[[Mapping[str, Any], Emit], None]] = {
    "check": check,
    "campaign": campaign,
    "preview": write_previews,
    "compile": compile_only,
}

if __name__ == "__main__":
    main()
