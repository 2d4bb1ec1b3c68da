"""What never happens here, and how large things may grow. What still breaks a rule stands in
EXCEPTIONS, which may only shrink.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from pydantic_settings import BaseSettings

from deploy.docs.pages import descendants, import_everything
from services.runtime.settings import LaneSettings
from tests.support.sources import PYTHON, ROOT, called, imports, named, tracked

MODULE_LINES_MAX, TEST_MODULE_LINES_MAX, FUNCTION_LINES_MAX = 500, 500, 40

# Path, or path and function: (its lines now, why). A larger one fails, and so does a smaller one
# until its number here is lowered.
EXCEPTIONS: dict[str, tuple[int, str]] = {}

BUSINESS = frozenset(
    {"order", "orders", "ticket", "tickets", "campaign", "campaigns", "buyer", "holder", "invoice"}
)
STORES = frozenset(
    {
        "store.py",
        "lane_store.py",
        "commands.py",
        "incidents.py",
        "migrate.py",
        "session.py",
    }
)  # the only modules that may load statements
STATEMENT = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|create\s+table)",
    re.IGNORECASE,
)
PING = "select 1"  # asks whether the server answers, and reads nothing of it
REGISTRY = re.compile(
    r"https?://[^\s\"'`)]*(?:pypi|pythonhosted|maven|repo1|sonatype|nexus|artifactory|npmjs|docker\.io|quay|ghcr|crates\.io)"
    r"|--(?:extra-)?index-url[ =]\S|--find-links[ =]\S|^(?:extra-)?index-url\s*=|^find-links\s*=",
    re.IGNORECASE | re.MULTILINE,
)
MACHINE = re.compile(r"(?<![\w.$~-])/(?:root|home/\w+|work|Users/\w+)/[\w.-]")
# "XXX", quoted, is ISO 4217's code for no currency.
UNFINISHED = re.compile(r"\b(TODO|FIXME|(?<![\x22`])XXX|HACK|NotImplementedError)\b")
BARE_IGNORE = re.compile(
    r"# noqa(?!: [A-Z]+\d+(?:, ?[A-Z]+\d+)* - \S)|# type: ignore(?!\[[\w, -]+\]  ?# \S)"
)


OURS = [path for path in PYTHON if not named(path).startswith("tests/")]
SERVICES = [path for path in PYTHON if named(path).startswith("services/")]
RUNTIME = [path for path in PYTHON if named(path).startswith("services/runtime/")]
SQL = tracked("*.sql")
THIS = Path(__file__).resolve()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{named(path)} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def sizes() -> Iterator[tuple[str, int, int]]:
    """Everything that has a limit: its name, its lines, its limit."""
    for path in PYTHON:
        limit = MODULE_LINES_MAX if path in OURS else TEST_MODULE_LINES_MAX
        yield named(path), path.read_text("utf-8").count("\n"), limit
    for path in OURS:
        yield from ((name, lines, FUNCTION_LINES_MAX) for name, lines in functions(path))


def test_nothing_grows_beyond_its_limit() -> None:
    grown = [
        f"{name}: {lines} lines, {limit} allowed"
        for name, lines, limit in sizes()
        if lines > EXCEPTIONS.get(name, (limit,))[0]
    ]
    assert not grown


Sizes = Mapping[str, tuple[int, int]]  # name -> its lines and its limit


def stale(exceptions: Mapping[str, tuple[int, str]], sizes: Sizes) -> Iterator[str]:
    """Entries that allow more than is needed."""
    for name, (allowed, why) in exceptions.items():
        lines, limit = sizes.get(name, (0, 0))
        if not why:
            yield f"{name}: has no reason"
        elif lines <= limit:
            yield f"{name}: keeps the rule now, remove it"
        elif lines < allowed:
            yield f"{name}: has {lines} lines now"


def test_the_list_of_exceptions_only_shrinks() -> None:
    now = {name: (lines, limit) for name, lines, limit in sizes()}
    assert list(stale(EXCEPTIONS, now)) == []


@pytest.mark.parametrize(
    ("entry", "now", "expected"),
    [
        ((520, "why"), (520, 500), []),
        ((520, "why"), (519, 500), ["a.py: has 519 lines now"]),
        ((520, "why"), (500, 500), ["a.py: keeps the rule now, remove it"]),
        ((520, ""), (520, 500), ["a.py: has no reason"]),
    ],
)
def test_an_exception_that_allows_too_much_is_found(
    entry: tuple[int, str], now: tuple[int, int], expected: list[str]
) -> None:
    assert list(stale({"a.py": entry}, {"a.py": now})) == expected


def test_an_exception_for_what_was_removed_is_found() -> None:
    assert list(stale({"a.py": (520, "why")}, {})) == ["a.py: keeps the rule now, remove it"]


def words(identifier: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def identifiers(path: Path) -> Iterator[str]:
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from (
            token.string
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.NAME
        )
        return
    statements = re.sub(r"--.*|'[^']*'|\border\s+by\b", " ", source, flags=re.IGNORECASE)
    yield from re.findall(r"\w+", statements)


def test_the_runtime_knows_no_business_word() -> None:
    runtime_sql = [
        path for path in SQL if "services/runtime/" in named(path) or path.name.startswith("0001_")
    ]
    broken = {
        f"{named(path)}: {identifier}"
        for path in [*RUNTIME, *runtime_sql]
        for identifier in identifiers(path)
        if words(identifier) & BUSINESS
    }
    assert RUNTIME
    assert runtime_sql
    assert not broken


def test_no_text_of_the_runtime_has_a_business_word_either() -> None:
    broken = [
        named(path)
        for path in RUNTIME
        if re.search(r"\b(tickets?|campaigns?)\b", path.read_text("utf-8"), re.IGNORECASE)
    ]
    assert not broken


def constants(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_sql_stands_in_sql_files() -> None:
    inside = [
        f"{named(path)}:{line}"
        for path in OURS
        if named(path).startswith(("services/", "schemas/"))
        for line, text in constants(path)
        if STATEMENT.match(text) and text != PING
    ]
    assert not inside


def test_statements_are_loaded_by_stores_only() -> None:
    loading = [
        path
        for path in OURS
        if re.search(r"^\w+ = statements\.load\(", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert loading
    assert [named(path) for path in loading if path.name not in STORES] == []


def test_sql_files_stand_with_their_store_or_among_the_migrations() -> None:
    astray = [
        named(p)
        for p in SQL
        if p.parent.name not in {"queries", "migrations"} and not named(p).startswith("tests/")
    ]
    assert not astray


def test_every_parameter_of_a_statement_is_cast_where_it_stands() -> None:
    """The server guesses the type of an uncast one, and otherwise when a batch is all null."""
    bare = [
        f"{named(path)}: {uncast[0]}"
        for path in SQL
        if path.parent.name == "queries"
        for uncast in re.finditer(
            r"%\(\w+\)[sbt](?!::\w)", re.sub(r"--.*", "", path.read_text("utf-8"))
        )
    ]
    assert not bare


SETTINGS = ("settings", "servers")  # how the name of an object of settings ends


def settings_read(path: Path) -> Iterator[str]:
    """Attributes that are read of an object whose name shows that it holds settings. An attribute
    of the same name of anything else, `partition.topic` or `self.user`, reads no setting.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            match node.value:
                case ast.Name(id=owner) | ast.Attribute(attr=owner) if owner.endswith(SETTINGS):
                    yield node.attr


def test_every_setting_is_read_somewhere() -> None:
    """A setting that no code reads changes nothing; a comment that names it is no reader."""
    import_everything()
    kinds: list[type[BaseSettings]] = [LaneSettings, *descendants(BaseSettings)]
    fields = {
        (service_of(kind.__module__.replace(".", "/")), name)
        for kind in kinds
        for name in kind.model_fields
        if not any(name in getattr(base, "model_fields", ()) for base in kind.__bases__)
    }
    read = {(service_of(named(path)), name) for path in SERVICES for name in settings_read(path)}
    read |= {("services/runtime", name) for _, name in read}  # its settings are for all services
    assert len(fields) > len(LaneSettings.model_fields)
    assert sorted(fields - read) == []


def service_of(path: str) -> str:
    return "/".join(path.split("/")[:2])


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("settings.port", ["port"]),
        ("self._settings.port", ["port"]),
        ("delivery_settings.port", ["port"]),
        ("servers.port", ["port"]),
        ("# settings.port", []),
        ("'settings.port'", []),
        ("settings.port = 1", []),
        ("self.port", []),
        ("parsed_url.port", []),
        ("settings().port", []),
    ],
)
def test_only_an_attribute_of_settings_reads_a_setting(
    tmp_path: Path, code: str, read: list[str]
) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"{code}\n", "utf-8")
    assert list(settings_read(module)) == read


def deadlines(path: Path) -> Iterator[int]:
    """Lines at which hypothesis is given a deadline: for one test or for a profile."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or called(node) not in {"settings", "register_profile"}:
            continue
        if any(keyword.arg == "deadline" for keyword in node.keywords):
            yield node.lineno


def test_no_test_has_a_deadline_for_an_example() -> None:
    """How long one takes depends on what else the machine does. The one profile of all tests has no
    deadline.
    """
    given = [named(path) for path in PYTHON for _ in deadlines(path)]
    assert given == ["tests/conftest.py"]
    assert hypothesis.settings().deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings().suppress_health_check


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a registry's address", REGISTRY),
        ("a path of one machine", MACHINE),
        ("unfinished work", UNFINISHED),
    ],
)
def test_no_file_holds(what: str, pattern: re.Pattern[str]) -> None:
    matches = []
    for path in tracked():
        if path == THIS or path.suffix in {".png", ".pdf", ".ttf", ".jar"}:
            continue
        text = path.read_text("utf-8", errors="replace")
        matches += [
            f"{named(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
            for match in pattern.finditer(text)
        ]
    assert not matches, what


def test_an_exception_to_a_linter_names_its_rule_and_its_reason() -> None:
    bare = [
        f"{named(path)}:{number}"
        for path in PYTHON
        if path != THIS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if BARE_IGNORE.search(line)
    ]
    assert not bare


LIBRARIES = frozenset({"runtime", "clients"})  # no services: every service may import them


def test_no_service_imports_another() -> None:
    crossing = []
    for path in OURS:
        parts = named(path).split("/")
        if parts[0] != "services" or len(parts) < 3:
            continue
        for module in imports(path):
            target = module.split(".")
            if (
                target[0] == "services"
                and len(target) > 1
                and target[1] not in {parts[1], *LIBRARIES}
            ):
                crossing.append(f"{named(path)} imports {module}")
    assert not crossing


def classes(paths: list[Path]) -> dict[str, list[str]]:
    """Class names, inner classes too, each with the modules that define it."""
    defined: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(named(path))
    return defined


def test_a_class_name_stands_once() -> None:
    """A reader who searches for a class finds one, and a name in a log or a report means one."""
    assert {name: paths for name, paths in classes(PYTHON).items() if len(paths) > 1} == {}


def test_every_service_states_its_guarantee() -> None:
    modules = [
        path
        for path in PYTHON
        if path.name == "__init__.py" and path.parent.parent == ROOT / "services"
        if path.parent.name != "clients"
    ]
    assert len(modules) >= len(("runtime", "ingest", "approval", "issuer", "delivery", "console"))
    for path in modules:
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        assert all(
            re.search(rf"^{word} ", docstring, re.MULTILINE)
            for word in ("In", "Out", "Owns", "Crash", "Does not")
        ), named(path)


def rule(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (rule(REGISTRY), "see https://" + "pypi.org/simple"),
        (rule(REGISTRY), "pip install --index-url " + "http://x"),
        (rule(MACHINE), "cd /work" + "/main"),
        (rule(BARE_IGNORE), "x = 1  # no" + "qa"),
        (rule(BARE_IGNORE), "x = 1  # type: " + "ignore[arg-type]"),
        (rule(STATEMENT), "\n  select 1"),
        (lambda text: bool(words(text) & BUSINESS), "lockOrderRows"),
        (lambda text: bool(words(text) & BUSINESS), "TICKET_ID"),
    ],
    ids=range(8),
)
def test_each_rule_can_fail(broken: Callable[[str], bool], text: str) -> None:
    assert broken(text)
