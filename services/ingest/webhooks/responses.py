"""The HTTP responses of the webhook endpoint."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

RawHeaders = list[tuple[bytes, bytes]]


class WebhookResponse(NamedTuple):
    """A response, ready to be sent."""

    status: int
    headers: RawHeaders
    body: bytes


class ProblemError(Exception):
    """A refusal as problem details (RFC 9457)."""

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def response(self) -> WebhookResponse:
        document = {"title": self.status.phrase, "status": self.status.value, "detail": self.detail}
        body = json.dumps(document).encode()
        more = [
            (name.replace("_", "-").encode(), text.encode()) for name, text in self.headers.items()
        ]
        fixed = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
        ]
        return WebhookResponse(self.status.value, fixed + more, body)


def accepted(body: bytes) -> WebhookResponse:
    """Return the response that a vendor reads as success."""
    return WebhookResponse(
        200,
        [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))],
        body,
    )


def too_many_requests() -> ProblemError:
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many callbacks of this source",
        retry_after="1",
        connection="close",
    )


def too_large(most: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {most} bytes", connection="close"
    )


def retry_later(why: str, after_s: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE, why, retry_after=str(after_s), connection="close"
    )
