"""`python -m deploy.docs`: writes docs/reference anew, and says what changed."""

from pathlib import Path

from deploy.docs.pages import pages

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def main() -> None:
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(REFERENCE.parents[1])} was written")


if __name__ == "__main__":
    main()
