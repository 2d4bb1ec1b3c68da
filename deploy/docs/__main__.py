"""`python -m deploy.docs`: writes docs/reference anew, and says what changed. `--check` writes
nothing, and fails if it would.
"""

import sys
from pathlib import Path

from deploy.docs.pages import pages

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def stale() -> dict[Path, str]:
    """What each page should say, for those that say otherwise."""
    wanted = {REFERENCE / name: text for name, text in pages().items()}
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    }


def main() -> int:
    found = stale()
    if "--check" in sys.argv[1:]:
        for path in found:
            print(f"docs/reference/{path.name} is stale: run `python -m deploy.docs`")
        return int(bool(found))
    for path, text in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(f"docs/reference/{path.name} was written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
