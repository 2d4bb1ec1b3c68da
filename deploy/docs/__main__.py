"""`python -m deploy.docs` writes the pages of docs/reference that are generated, and prints what
changed. With `--check` it writes nothing, and fails if a page would change.
"""

import sys
from pathlib import Path

from deploy.docs.pages import pages

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def stale() -> dict[Path, str]:
    """Return the new text of each page that is missing or differs."""
    wanted = {REFERENCE / name: text for name, text in pages().items()}
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    }


def main() -> int:
    changes = stale()
    if "--check" in sys.argv[1:]:
        for path in changes:
            print(f"docs/reference/{path.name} is stale: run `python -m deploy.docs`")
        return int(bool(changes))
    for path, text in changes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(f"docs/reference/{path.name} was written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
