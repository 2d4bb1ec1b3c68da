"""What the door says to a caller."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

RawHeaders = list[tuple[bytes, bytes]]


class WebhookAnswer(NamedTuple):
    """What a caller is told."""

    status: int
    headers: RawHeaders
    body: bytes


class ProblemError(Exception):
    """A refusal, as RFC 9457 wants it."""

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def answer(self) -> WebhookAnswer:
        document = {"title": self.status.phrase, "status": self.status.value, "detail": self.detail}
        body = json.dumps(document).encode()
        more = [
            (name.replace("_", "-").encode(), text.encode()) for name, text in self.headers.items()
        ]
        fixed = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
        ]
        return WebhookAnswer(self.status.value, fixed + more, body)


def taken(body: bytes) -> WebhookAnswer:
    """What a vendor reads as: it is kept."""
    return WebhookAnswer(
        200,
        [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))],
        body,
    )


def too_fast() -> ProblemError:
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS, "this source is too fast", retry_after="1", connection="close"
    )


def too_large(most: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {most} bytes", connection="close"
    )


def come_again(why: str, after_s: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE, why, retry_after=str(after_s), connection="close"
    )
