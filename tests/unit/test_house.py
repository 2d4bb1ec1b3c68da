"""What never happens here, and how large things may grow. What breaks a rule stands in EXCEPTIONS,
which may only shrink.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from services.runtime.settings import LaneSettings

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES_MAX, TEST_MODULE_LINES_MAX, FUNCTION_LINES_MAX = 500, 500, 40

# path, or path and function: (its lines now, why). Larger fails; smaller asks to lower the number
# here.
WRAPPED = "grew past the limit when lines were cut at column 100: split it when you next touch it"
EXCEPTIONS: dict[str, tuple[int, str]] = {
    "tests/integration/test_issuer.py": (521, WRAPPED),
    "tests/protocol/laws/kafka_world.py": (547, WRAPPED),
    "tests/protocol/laws/mutations.py": (585, WRAPPED),
    "tests/unit/delivery/rendering/test_designs.py": (587, WRAPPED),
    "deploy/demo/live.py draw": (46, WRAPPED),
    "deploy/docs/pages.py topics_page": (42, WRAPPED),
    "deploy/local/look.py lag": (42, WRAPPED),
    "services/delivery/cli_design.py new_design": (47, WRAPPED),
    "services/delivery/printing/compile/assembling.py assembled": (52, WRAPPED),
    "services/delivery/printing/compile/compiler.py pressed": (47, WRAPPED),
    "services/delivery/printing/design/page.py filled": (44, WRAPPED),
    "services/delivery/printing/fonts/faces.py compiled": (43, WRAPPED),
    "services/delivery/printing/pdf/writer.py write": (42, WRAPPED),
    "services/delivery/printing/tools/checks.py _compared": (49, WRAPPED),
    "services/delivery/sender/process.py build": (42, WRAPPED),
    "services/delivery/sender/process.py run": (59, WRAPPED),
    "services/issuer/rules/plan.py _issue": (46, WRAPPED),
    "services/issuer/worker.py work": (44, WRAPPED),
    "services/runtime/observability/health.py _handler": (45, WRAPPED),
    "services/runtime/postgres/connection.py connect": (43, WRAPPED),
    "services/runtime/testing/broker.py _take": (45, WRAPPED),
}

BUSINESS = frozenset(
    {"order", "orders", "ticket", "tickets", "campaign", "campaigns", "buyer", "holder", "invoice"}
)
STORES = frozenset(
    {
        "store.py",
        "ledger.py",
        "commands.py",
        "operate.py",
        "incidents.py",
        "migrate.py",
        "session.py",
    }
)  # the only modules that may load statements
STATEMENT = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|create\s+table)",
    re.IGNORECASE,
)
PING = "select 1"  # asks whether the server is there, and nothing of it
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


def tracked(*patterns: str) -> list[Path]:
    """Files of the project as git knows them, new ones too: nobody's caches, no virtual
    environment.
    """
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *patterns,
    ]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({ROOT / name for name in listed if (ROOT / name).is_file()})


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PYTHON = tracked("*.py")
OURS = [path for path in PYTHON if not named(path).startswith("tests/")]
RUNTIME = [path for path in PYTHON if named(path).startswith("services/runtime/")]
SQL = tracked("*.sql")
THIS = Path(__file__).resolve()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{named(path)} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def sizes() -> Iterator[tuple[str, int, int]]:
    """What has a limit: its name, its lines, its limit."""
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


def test_the_list_of_exceptions_only_shrinks() -> None:
    now = {name: (lines, limit) for name, lines, limit in sizes()}
    for name, (allowed, why) in EXCEPTIONS.items():
        lines, limit = now.get(name, (0, 0))
        assert why, name
        assert lines > limit, f"{name} keeps the rule now: take it out"
        assert lines == allowed, f"{name} has become smaller: {lines}"


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
    spoken = {
        f"{named(path)}: {identifier}"
        for path in [*RUNTIME, *runtime_sql]
        for identifier in identifiers(path)
        if words(identifier) & BUSINESS
    }
    assert not spoken


def test_the_runtime_tells_no_business_in_its_texts_either() -> None:
    told = [
        named(path)
        for path in RUNTIME
        if re.search(r"\b(tickets?|campaigns?)\b", path.read_text("utf-8"), re.IGNORECASE)
    ]
    assert not told


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
    """An uncast one is guessed by the server, and guessed otherwise when a batch is empty or all
    null.
    """
    bare = [
        f"{named(path)}: {found[0]}"
        for path in SQL
        if path.parent.name == "queries"
        for found in re.finditer(
            r"%\(\w+\)[sbt](?!::\w)", re.sub(r"--.*", "", path.read_text("utf-8"))
        )
    ]
    assert not bare


def test_every_setting_of_a_lane_is_read_somewhere() -> None:
    """One that nobody reads is a promise that nobody keeps."""
    read = {
        word
        for path in RUNTIME
        if path.name != "settings.py"
        for word in re.findall(r"\w+", path.read_text("utf-8"))
    }
    assert set(LaneSettings.model_fields) - read == set()


def test_no_mocks() -> None:
    """Tests run against the real thing, or against the fake on which the laws run too."""
    mocking = [
        named(path)
        for path in PYTHON
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (
            isinstance(node, ast.Import)
            and any(alias.name.startswith(("unittest.mock", "mock")) for alias in node.names)
        )
        or (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith(("unittest.mock", "mock", "pytest_mock"))
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "unittest"
            and any(a.name == "mock" for a in node.names)
        )
    ]
    assert not mocking


def deadlines(path: Path) -> Iterator[int]:
    """Lines at which hypothesis is given a deadline: for one test or for a profile."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and any(
            keyword.arg == "deadline" for keyword in node.keywords
        ):
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            if called in {"settings", "register_profile"}:
                yield node.lineno


def test_no_test_has_a_deadline_for_an_example() -> None:
    """How long one takes depends on what else the machine does. The one profile for all tests says
    so, once.
    """
    found = [named(path) for path in PYTHON for _ in deadlines(path)]
    assert found == ["tests/conftest.py"]
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
    found = []
    for path in tracked():
        if path == THIS or path.suffix in {".png", ".pdf", ".ttf", ".jar"}:
            continue
        text = path.read_text("utf-8", errors="replace")
        found += [
            f"{named(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
            for match in pattern.finditer(text)
        ]
    assert not found, what


def test_an_exception_to_a_linter_says_which_rule_and_why() -> None:
    bare = [
        f"{named(path)}:{number}"
        for path in PYTHON
        if path != THIS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if BARE_IGNORE.search(line)
    ]
    assert not bare


LIBRARIES = frozenset({"runtime", "clients"})  # what all services may import; they are no services


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


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_service_states_its_guarantee() -> None:
    for path in PYTHON:
        is_service = path.parent.parent == ROOT / "services" and path.parent.name != "clients"
        if path.name == "__init__.py" and is_service:
            told = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            assert all(
                re.search(rf"^{word} ", told, re.MULTILINE)
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
