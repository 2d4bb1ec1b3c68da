"""Structured logs: one JSON object per line, on stderr.

The contents of a record are never logged, only its position and key. Fields by convention: key,
trace_id, group, topic, partition. The text of an event is a short, fixed phrase.
"""

import logging
import re
import sys
from collections.abc import Mapping
from traceback import extract_tb
from typing import TextIO, cast

import psycopg
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from services.runtime.errors import BrokerUnavailable
from services.runtime.observability.log_limits import RepeatLimiter, message_shape
from services.runtime.text import storable

NEVER_LOGGED = frozenset(
    {"value", "body", "payload", "data", "password", "secret", "authorization"}
)
TEXT_CHARS_MAX = 2_000
FRAMES_MAX = 12
BROKER_UNAVAILABLE_TEXT = re.compile(  # in the lines of any librdkafka client
    r"refused|resolve|timed.?out|timeout|disconnected|brokers? (?:are|is) down|reset by peer|"
    r"unreachable|broken pipe|no route",
    re.IGNORECASE,
)


KAFKA_LOGGER = "kafka"  # the Python logger of all Kafka clients in a process


def configure(service: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Configure logging, once, at a process's start. Warnings of libraries that use Python's
    logging become JSON lines too.
    """
    structlog.contextvars.clear_contextvars()

    def named(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Add the service to the lines of every thread: context variables belong to one."""
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            named,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            format_errors,
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryLogHandler()], level=logging.WARNING, force=True)


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of a component: `log = logs.get("lanes")`, then
    `log.info("lane acquired", topic=...)`.
    """
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def describe(error: BaseException) -> str:
    """Return an error in one line. Of a database error only the primary message, since DETAIL
    quotes rows.
    """
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = f"{error.diag.message_primary} ({error.sqlstate})"
    return storable(f"{type(error).__name__}: {text}".strip(": "), TEXT_CHARS_MAX)


def format_errors(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by two fields, the error and its stack, without the values of frames."""
    exc_info = event.pop("exc_info", None)
    error = sys.exception() if exc_info is True else exc_info
    if isinstance(error, BaseException):
        frames = extract_tb(error.__traceback__)[-FRAMES_MAX:]
        event["error"] = describe(error)
        event["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace contents and secrets, by field name, and escape what could break a line."""
    return {
        storable(str(name), 100): "(not logged)" if name in NEVER_LOGGED else _redact(field)
        for name, field in event.items()
    }


def _redact(field: object) -> object:
    match field:
        case None | bool() | int() | float():
            return field
        case bytes():
            return f"({len(field)} bytes)"
        case Mapping():
            return {storable(str(name), 100): _redact(inner) for name, inner in field.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact(inner) for inner in field]
        case _:
            return storable(str(field), TEXT_CHARS_MAX)


class _LibraryLogHandler(logging.Handler):
    """Writes the lines of libraries as JSON, at most one line a minute per cause."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = RepeatLimiter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        more: dict[str, object] = {}
        if record.name == KAFKA_LOGGER and BROKER_UNAVAILABLE_TEXT.search(text):
            more["code"] = BrokerUnavailable.code
        suppressed = self._repeats.due((record.name, more.get("code") or message_shape(text)))
        if suppressed is None:
            return
        if suppressed:
            more["suppressed"] = suppressed
        error = record.exc_info[1] if record.exc_info else None
        get(record.name).log(record.levelno, text, exc_info=error, **more)
