"""What others have to say before a command is carried out: entry points of the group `stubline.preflight`, by name.

A service may not import another, and yet what one accepts can be what another will stumble over. So the one asks whoever is
installed, with plain content; whoever minds raises an error of the tree, and nothing has been changed yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

GROUP = "stubline.preflight"


def run(name: str, content: Mapping[str, Any]) -> None:
    """Raises what an entry point raises. Nobody there: nobody minds."""
    for entry in sorted(entry_points(group=GROUP, name=name), key=lambda entry: entry.value):
        entry.load()(content)
