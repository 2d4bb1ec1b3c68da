"""The package exports what its docstring shows, and importing it imports no client."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import services.runtime
from services.runtime import Duplicate, Effect, Record, Service


def add_words(session: set[str], words: Sequence[str]) -> set[str]:
    """Stands for the service's statement: the session is the set of known words."""
    new = set(words) - session
    session |= new
    return new


def example() -> str:
    document = services.runtime.__doc__ or ""
    begin, end = document.index("    from collections.abc"), document.index("\nIn        ")
    return textwrap.dedent(document[begin:end])


def test_the_service_in_the_docstring_is_true_code_of_fifteen_lines() -> None:
    code = example()
    names: dict[str, Any] = {"__name__": "example", "add_words": add_words}
    exec(compile(code, "services/runtime/__init__.py", "exec"), names)  # noqa: S102 - our own docstring
    service: Service[str, Any] = names["SERVICE"]
    records = [
        Record("words.v1", 0, offset, 0, None, value, ())
        for offset, value in enumerate([b"a", b"b"])
    ]
    words = [service.parse(record) for record in records]
    session: set[str] = set()
    assert service.handle([str(word) for word in words], session) == [Effect(), Effect()]
    assert service.handle(["a"], session) == [Duplicate()]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_every_public_name_can_be_imported() -> None:
    for name in services.runtime.__all__:
        assert getattr(services.runtime, name) is not None


def test_importing_the_package_imports_no_client() -> None:
    script = (
        "import sys, services.runtime; print({'confluent_kafka', 'psycopg'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_an_unknown_name_is_no_attribute() -> None:
    assert not hasattr(services.runtime, "NoSuchName")
