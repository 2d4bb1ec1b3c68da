"""The words that no name may hold, and where they still stand.

docs/reference/glossary.md lists the words, tests/unit/allowed_words.toml counts what still holds
one, by file. `python -m deploy.docs.words` prints that list as it is now, and `--write` writes it;
a list with more of any word than before is refused. `--where WORD` prints the names that hold one.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
ALLOWED = ROOT / "tests" / "unit" / "allowed_words.toml"
FOLDERS = ("services", "schemas", "deploy", "tests", "model")
ANYWHERE, ALONE = "no name has the word", "no name is only"
NAME_IN_TEXT = re.compile(r"[a-z][a-z0-9]*(?:[_.-][a-z0-9]+)+")  # a metric, an error code, a key
HEADER = """# How many names still hold a word that docs/reference/glossary.md bans, by file. The
# list only shrinks: `python -m deploy.docs.words --write` makes it, and refuses more of a word.

"""

Counts = dict[str, dict[str, int]]  # file -> word -> names that hold it


@dataclass(frozen=True)
class Banned:
    """Phrases of one or more words; a phrase in `exceptions` hides the banned ones inside it."""

    anywhere: frozenset[str]
    alone: frozenset[str]
    exceptions: frozenset[str]

    def phrases_in(self, name: str) -> Iterator[str]:
        """The banned phrases that a name holds."""
        text = f" {' '.join(words_of(name))} "
        for phrase in self.exceptions:
            text = text.replace(f" {phrase} ", "  ")
        yield from (phrase for phrase in self.anywhere if f" {phrase} " in text)
        if (only := text.strip()) in self.alone:
            yield only


def words_of(name: str) -> list[str]:
    """The words of snake_case, camelCase or kebab-case, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def banned(glossary: str) -> Banned:
    anywhere, exceptions, alone = set[str](), set[str](), set[str]()
    for first, _ in rows(glossary, ANYWHERE):
        words, _, excepted = first.partition("(except")
        anywhere.update(quoted(words))
        exceptions.update(quoted(excepted))
    for first, _ in rows(glossary, ALONE):
        alone.update(quoted(first))
    return Banned(frozenset(anywhere), frozenset(alone), frozenset(exceptions))


def terms(glossary: str) -> dict[str, bool]:
    """The glossary's terms, and whether each is Stubline's own."""
    return {
        first.removesuffix(" (ours)"): first.endswith(" (ours)")
        for first, _ in rows(glossary, "term")
    }


def rows(page: str, column: str) -> Iterator[tuple[str, str]]:
    """The first two cells of each row of the table whose first column has that heading."""
    _, _, below = page.partition(f"| {column} |")
    for line in below.splitlines()[2:]:
        if not line.startswith("|"):
            return
        first, second = line.strip("| ").split(" | ")[:2]
        yield first, second


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def files() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", *FOLDERS]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(
        path for name in listed if (path := ROOT / name).suffix in {".py", ".sql"} and path.exists()
    )


def names(path: Path) -> Iterator[str]:
    """The names that a file defines, its own first."""
    yield path.stem
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from names_in_python(ast.parse(source))
    else:
        yield from re.findall(r"^-- name: (\w+)", source, re.MULTILINE)
        yield from re.findall(r"\w+", re.sub(r"--.*|'[^']*'", " ", source))


def names_in_python(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(name)) if NAME_IN_TEXT.fullmatch(name):
                yield name


def holding(path: Path, rule: Banned, phrase: str) -> set[str]:
    return {name for name in names(path) if phrase in rule.phrases_in(name)}


def counts(rule: Banned, paths: Iterable[Path]) -> Counts:
    by_file = {
        path.relative_to(ROOT).as_posix(): Counter(
            phrase for name in names(path) for phrase in rule.phrases_in(name)
        )
        for path in paths
    }
    return {path: dict(sorted(words.items())) for path, words in by_file.items() if words}


def allowed() -> Counts:
    if not ALLOWED.exists():
        return {}
    with ALLOWED.open("rb") as file:
        return tomllib.load(file)


def written(by_file: Counts) -> str:
    lines = [
        f'"{path}" = {{ {", ".join(f"{key(word)} = {count}" for word, count in words.items())} }}\n'
        for path, words in by_file.items()
    ]
    return HEADER + "".join(lines)


def key(word: str) -> str:
    return word if word.isalpha() else f'"{word}"'


def totals(by_file: Counts) -> Counter[str]:
    return sum((Counter(words) for words in by_file.values()), Counter[str]())


def grown(before: Counts, now: Counts) -> dict[str, int]:
    """By how many names each word has grown, over all files: a file may be moved or cut."""
    return dict(totals(now) - totals(before))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.docs.words")
    parser.add_argument("--write", action="store_true", help="write the list")
    parser.add_argument("--where", metavar="WORD", help="print the names that hold this word")
    options = parser.parse_args()
    rule = banned(GLOSSARY.read_text("utf-8"))
    if options.where:
        for path in files():
            for name in sorted(holding(path, rule, options.where)):
                print(f"{path.relative_to(ROOT)}: {name}")
        return 0
    now = counts(rule, files())
    if not options.write:
        print(written(now), end="")
        return 0
    if ALLOWED.exists() and (more := grown(allowed(), now)):
        print(f"refused: more names than before hold {more}")
        return 1
    ALLOWED.write_text(written(now), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
