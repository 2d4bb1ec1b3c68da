"""Reads the named statements in a package's queries/*.sql, the only place for SQL."""

import re
from importlib.resources import files


def load(package: str) -> dict[str, bytes]:
    """Return statements by name. Called at import, so that a broken file stops the start."""
    statements: dict[str, bytes] = {}
    queries = [
        entry
        for entry in files(package).joinpath("queries").iterdir()
        if entry.name.endswith(".sql")
    ]
    for file in sorted(queries, key=lambda entry: entry.name):
        preamble, *parts = re.split(
            r"^-- name: (\w+)$", file.read_text("utf-8"), flags=re.MULTILINE
        )
        if preamble.strip():
            raise ValueError(f"{file.name}: text stands before the first `-- name:` line")
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"{file.name}: {name} is named twice in {package}")
            # The comment shows the name in pg_stat_activity and in the server's log.
            statements[name] = f"/* {package}.{name} */{body}".encode()
    return statements
