"""Structured logs: one JSON object a line, on stderr. Never what a record says, only where it stands and whose it is.

Fields by convention: key, trace_id, group, topic, partition. An event's name is a short sentence that is never changed.
"""

import logging
import sys
from collections.abc import Mapping
from traceback import extract_tb
from typing import TextIO, cast

import psycopg
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from services.runtime.text import storable

NEVER = frozenset({"value", "body", "payload", "data", "password", "secret", "authorization"})
TEXT_CHARS_MAX = 2_000
FRAMES_MAX = 12


def configure(service: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Once, at a process's start. Python's own logging goes the same way, so that a library's warning is a line too."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            tell_errors,
            clean,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Through()], level=logging.WARNING, force=True)


def get(name: str) -> FilteringBoundLogger:
    """A logger that says where it speaks from: `log = logs.get("lanes")`, then `log.info("lane acquired", topic=...)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def describe(error: BaseException) -> str:
    """An error in a line. A database's DETAIL quotes rows, so only its primary message is told."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = f"{error.diag.message_primary} ({error.sqlstate})"
    return storable(f"{type(error).__name__}: {text}".strip(": "), TEXT_CHARS_MAX)


def tell_errors(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`exc_info` becomes two fields: what it says, and where it stood. Never the values of the frames."""
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given
    if isinstance(error, BaseException):
        frames = extract_tb(error.__traceback__)[-FRAMES_MAX:]
        event["error"] = describe(error)
        event["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The last gate: contents and secrets are named but not shown, and no text can break the line or the reader."""
    return {
        storable(str(name), 100): "(not logged)" if name in NEVER else _clean(field) for name, field in event.items()
    }


def _clean(field: object) -> object:
    match field:
        case None | bool() | int() | float():
            return field
        case bytes():
            return f"({len(field)} bytes)"
        case Mapping():
            return {storable(str(name), 100): _clean(inner) for name, inner in field.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(inner) for inner in field]
        case _:
            return storable(str(field), TEXT_CHARS_MAX)


class _Through(logging.Handler):
    """What libraries log, by the same road."""

    def emit(self, record: logging.LogRecord) -> None:
        get(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info and record.exc_info[1])
