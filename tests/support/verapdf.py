"""veraPDF, the reference validator of PDF/UA: one run of a Java machine for all files of a test
session.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.local.jars import VERAPDF_LOCK, fetched
from deploy.local.kafka import find_java
from deploy.local.stack import STATE

MAIN = "org.verapdf.apps.GreenfieldCliWrapper"
VERDICT = re.compile(r"^(PASS|FAIL) .*?(\d+)\.pdf ua1$", re.MULTILINE)
RULE = re.compile(r"^  FAIL (\S+)$", re.MULTILINE)


def faults(files: Mapping[str, bytes], folder: Path) -> dict[str, list[str]]:
    """Name -> the clauses of PDF/UA-1 that the file breaks, such as `7.21.8-1`. Every file has its
    verdict.
    """
    for at, pdf in enumerate(files.values()):
        (folder / f"{at}.pdf").write_bytes(pdf)
    jars = fetched(STATE / "verapdf", VERAPDF_LOCK)
    command = [
        find_java(),
        "-Djava.awt.headless=true",
        "-cp",
        f"{jars}/*",
        MAIN,
        "--flavour",
        "ua1",
    ]
    paths = [str(folder / f"{at}.pdf") for at in range(len(files))]
    done = subprocess.run(
        [*command, "--format", "text", "-v", *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    verdicts = list(VERDICT.finditer(done.stdout))
    assert len(verdicts) == len(files), (
        f"veraPDF gave {len(verdicts)} verdicts of {len(files)}:\n{done.stdout}{done.stderr}"
    )
    names, failures = list(files), dict[str, list[str]]()
    for at, verdict in enumerate(verdicts):
        end = verdicts[at + 1].start() if at + 1 < len(verdicts) else len(done.stdout)
        broken = RULE.findall(done.stdout, verdict.end(), end)
        assert bool(broken) == (verdict[1] == "FAIL"), done.stdout
        failures[names[int(verdict[2])]] = broken
    return failures
