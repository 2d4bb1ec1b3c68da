"""Makes .venv from the locked requirements, on a machine that has Python and nothing else. Standard
library only.

uv, itself pinned by hash, installs the other packages in a second or two, with pip's own
configuration passed on. Where uv cannot work, pip does the same more slowly. What Debian or Ubuntu
must add (venv, Pango, a font) is installed when root or a sudo without password allows it;
otherwise one line names it, with the command.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LIBRARIES = {  # what WeasyPrint loads, and the package that brings it
    "libgobject-2.0.so.0": "libglib2.0-0",
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libpangoft2-1.0.so.0": "libpangoft2-1.0-0",
    "libharfbuzz.so.0": "libharfbuzz0b",
    "libharfbuzz-subset.so.0": "libharfbuzz-subset0",
    "libfontconfig.so.1": "libfontconfig1",
}
FONT_PACKAGE = "fonts-dejavu-core"
FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.local/share/fonts"),
)
PIP_TO_UV = {  # pip's configuration -> what uv reads
    "cert": "SSL_CERT_FILE",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "proxy": "ALL_PROXY",
}


def stop(text: str) -> None:
    sys.exit(f"setup: {text}")


def apt_install(packages: list[str], why: str) -> None:
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    may = not sudo or (
        shutil.which("sudo")
        and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    )
    if not may or shutil.which("apt-get") is None:
        stop(f"{why}; run: sudo {' '.join(command)}")
    print(f"setup: {why}; installing {' '.join(packages)}", flush=True)
    prefix = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive"]
    if subprocess.run([*prefix, *command], capture_output=True, check=False).returncode == 0:
        return
    subprocess.run([*prefix, "apt-get", "update"], capture_output=True, check=False)
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        stop(f"{why}, and this failed: {' '.join(command)}\n{done.stderr.strip()}")


def make_venv() -> None:
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-c", ""], capture_output=True, check=False).returncode == 0
    ):
        return
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    apt_install([f"python{version}-venv"], "this Python has no venv")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        stop(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def uv_environment(pip_config: str) -> dict[str, str]:
    """Translate the output of `pip config list` (files and PIP_* variables) for uv.

    A later line wins, as in pip (files, then environment). A variable of uv's own that is set is
    not changed.
    """
    variables: dict[str, str] = {}
    for line in pip_config.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_TO_UV:
            separator = "," if option == "find-links" else " "
            values = value.strip("'\"").replace("\\n", " ").split()
            variables[PIP_TO_UV[option]] = separator.join(values)
    if "UV_INDEX_URL" in os.environ:
        variables.pop("UV_DEFAULT_INDEX", None)
    return {
        **variables,
        **os.environ,
        "VIRTUAL_ENV": str(VENV),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON": str(PYTHON),
    }


def install() -> None:
    """Install the locked packages, then the project itself, editable and without any index."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    lock, project = (
        ["--require-hashes", "-r", "requirements/dev.txt"],
        ["--no-build-isolation", "--no-deps", "-e", "."],
    )
    if subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False).returncode:
        run([str(PYTHON), "-m", "ensurepip"])
    config = subprocess.run(
        [*pip, "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    environment = uv_environment(config)
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet"]
    first = [*pip, "install", "--quiet", "--require-hashes", "-r", "requirements/uv.txt"]
    if (
        tried(first)
        and tried([*uv, *lock], environment)
        and tried([*uv, *project, "--offline"], environment)
    ):
        return
    print("setup: uv failed; pip does the same, a little slower", flush=True)
    run([*pip, "install", "--quiet", *lock])
    run([*pip, "install", "--quiet", "--no-index", *project])


def tried(command: list[str], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def run(command: list[str]) -> None:
    if not tried(command):
        stop(f"this failed: {' '.join(command)}")


def add_system_libraries() -> None:
    missing = [package for library, package in LIBRARIES.items() if not loads(library)]
    if not any(has_font(folder.expanduser()) for folder in FONT_FOLDERS):
        missing.append(FONT_PACKAGE)
    if missing:
        apt_install(missing, "tickets are drawn with Pango and a font, and some of it is missing")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_font(folder: Path) -> bool:
    return any(True for pattern in ("*.ttf", "*.otf", "*.ttc") for _ in folder.rglob(pattern))


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is read by whatever Python the machine has
        stop(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; name another: "
            "make PYTHON=python3.12 setup"
        )
    if not os.access(Path("~").expanduser(), os.W_OK):  # no home to keep a cache in
        os.environ.update(UV_NO_CACHE="1", PIP_NO_CACHE_DIR="1")
    make_venv()
    install()
    add_system_libraries()
