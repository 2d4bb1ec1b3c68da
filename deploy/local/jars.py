"""The jars of Apache Kafka and veraPDF, by coordinates and SHA-256. They are fetched once, from
where this machine gets its Maven artifacts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maven_artifact import Artifact, Downloader

from deploy.local.process import StackError

LOCK = Path(__file__).with_name("kafka.lock")
VERAPDF_LOCK = Path(__file__).with_name("verapdf.lock")  # for tests: it validates PDF/UA-1


@dataclass(frozen=True, slots=True)
class Jar:
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def locked(lock: Path = LOCK) -> list[Jar]:
    return [
        Jar(*re.split("[: ]", line))
        for line in lock.read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]


def fetched(cache: Path, lock: Path = LOCK) -> Path:
    """Return the folder with all jars of the lock file; a mark in it means that all are right."""
    folder = cache / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    mark = folder / "complete"
    if mark.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in locked(lock) if not matches(folder / jar.name, jar)]
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda jar: keep(folder, jar, download(jar)), missing))
    except Exception as error:
        if shutil.which("mvn") is None:
            raise StackError(f"the jars of {lock.name} cannot be fetched: {error}") from error
        fetch_by_maven(folder, [jar for jar in missing if not matches(folder / jar.name, jar)])
    mark.touch()
    return folder


def matches(file: Path, jar: Jar) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == jar.sha256


def keep(folder: Path, jar: Jar, content: bytes) -> None:
    """Write a jar under its name, whole, and only if its hash is that of the lock file."""
    if (sha256 := hashlib.sha256(content).hexdigest()) != jar.sha256:
        raise StackError(
            f"{jar.group}:{jar.artifact}:{jar.version} has SHA-256 {sha256}, the lock file has "
            f"{jar.sha256}"
        )
    new = folder / f".{jar.name}.{os.getpid()}"
    new.write_bytes(content)
    new.replace(folder / jar.name)


def download(jar: Jar) -> bytes:
    source = Downloader()
    address = source.resolver.uri_for_artifact(Artifact(jar.group, jar.artifact, jar.version))
    content: bytes = source.requestor.request(
        address, None, lambda response: response.content, timeout=60
    )
    return content


def fetch_by_maven(folder: Path, jars: list[Jar]) -> None:
    """Fetch with Maven, which knows mirrors and proxies that the quick way does not read."""
    with tempfile.TemporaryDirectory() as place:
        write_pom(Path(place), [(jar.group, jar.artifact, jar.version) for jar in jars])
        run_maven(
            Path(place),
            "dependency:copy-dependencies",
            "-DexcludeTransitive=true",
            "-DoutputDirectory=jars",
        )
        for jar in jars:
            keep(folder, jar, (Path(place) / "jars" / jar.name).read_bytes())


def write_pom(folder: Path, coordinates: list[tuple[str, str, str]]) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in coordinates
    )
    head = (
        "<modelVersion>4.0.0</modelVersion><groupId>stubline</groupId>"
        "<artifactId>jars</artifactId><version>1</version>"
    )
    pom = f"<project>{head}<dependencies>{dependencies}</dependencies></project>"
    (folder / "pom.xml").write_text(pom, "utf-8")


def run_maven(folder: Path, *arguments: str) -> None:
    command = ["mvn", "--quiet", "--batch-mode", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
