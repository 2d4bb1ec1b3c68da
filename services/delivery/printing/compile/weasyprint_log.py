"""What WeasyPrint logs about a page: faults at which it does not stop."""

from __future__ import annotations

import logging
import re


def with_line_first(message: str) -> str:
    """Return WeasyPrint's "Ignored `colr: red` at 146:6, unknown property." with the line first,
    where an author expects it.
    """
    match = re.fullmatch(r"Ignored (.*) at (\d+):\d+, (.*)", message, re.DOTALL)
    return f"line {match[2]}: {match[1]}: {match[3]}" if match else message


class WeasyPrintLog(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
