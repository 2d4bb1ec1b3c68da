"""How a test starts a program in a process of its own."""

from __future__ import annotations

import os
import sys

from deploy.local.launch import __file__ as launch_file


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this Python. It is killed when the process of the
    tests ends, however that ends.
    """
    launch = [sys.executable, "-I", "-S", launch_file, "--parent", str(os.getpid())]
    return [*launch, "--signal", "9", "--", sys.executable, "-m", module, *arguments]
