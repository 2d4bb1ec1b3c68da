"""Write kafka.lock and verapdf.lock again: `make lock` after a change of versions. It needs Maven,
which resolves what Kafka depends on.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from deploy.local.jars import LOCK, VERAPDF_LOCK, run_maven, write_pom

VERSIONS = [
    ("org.apache.kafka", "kafka_2.13", "4.3.1"),
    # Kafka logs through slf4j and brings log4j, but not what joins them.
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
]
# One jar that holds all that it needs.
VERAPDF = [("org.verapdf.apps", "greenfield-apps", "1.28.2")]
HEADER = "# group:artifact:version and SHA-256 of each jar; made by `make lock`\n"


def main() -> None:
    write_lock(LOCK, VERSIONS)
    write_lock(VERAPDF_LOCK, VERAPDF, "-DexcludeTransitive=true")


def write_lock(lock: Path, versions: list[tuple[str, str, str]], *options: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pom(folder, versions)
        options = ("-DincludeScope=runtime", *options)
        run_maven(folder, "dependency:copy-dependencies", *options, "-DoutputDirectory=jars")
        run_maven(folder, "dependency:list", *options, "-DoutputFile=list")
        coordinates = sorted(
            set(
                re.findall(
                    r"^ +([^:\s]+):([^:\s]+):jar:([^:\s]+):",
                    (folder / "list").read_text(),
                    re.MULTILINE,
                )
            )
        )
        lines = [
            f"{':'.join(jar)} {sha256(folder / 'jars' / '-'.join(jar[1:]))}\n"
            for jar in coordinates
        ]
    lock.write_text(HEADER + "".join(lines), "utf-8")


def sha256(stem: Path) -> str:
    return hashlib.sha256(stem.with_name(f"{stem.name}.jar").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
