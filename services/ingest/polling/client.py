"""HTTP to one vendor, within bounds: its pace, the time and size of an answer, no way elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx
from typing_extensions import override

from services.ingest.polls.poll import NonsenseError
from services.runtime.version import CODE_VERSION

WAIT_S = 10.0  # for a connection, and for each part of an answer
ANSWER_S = 30.0  # for all of it
ANSWER_BYTES_MAX = 16 * 2**20
PER_SECOND = 1.0
TAG_CHARS_MAX, TAGS_MAX = 256, 4
NOT_MODIFIED = httpx.codes.NOT_MODIFIED


class UnchangedError(Exception):
    """All that was asked for is as it was the last time."""


class PartlyUnchangedError(Exception):
    """Of several requests of one page only some were answered: without tags they all are."""


class Client(httpx.Client):
    """Of one source, in one thread at a time. Redirects are not followed; TLS is verified, as httpx does."""

    def __init__(self, *, per_second: float = PER_SECOND, answer_s: float = ANSWER_S, wait_s: float = WAIT_S) -> None:
        agent = {"User-Agent": f"stubline/{CODE_VERSION}", "Accept": "application/json", "Accept-Encoding": "identity"}
        super().__init__(timeout=wait_s, follow_redirects=False, headers=agent, limits=httpx.Limits(max_connections=2))
        self._pause_s, self._answer_s, self._next_at = 1 / per_second, answer_s, 0.0
        self._known: Mapping[str, str] = {}
        self._answers = 0
        self.tags: dict[str, str] = {}

    def begin(self, tags: Mapping[str, str]) -> None:
        """A page, of which these tags (ETag by address) were told the last time. Then `tags` are those of this time."""
        self._known, self.tags, self._answers = tags, {}, 0

    @override
    def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        address = str(request.url)
        if request.method == "GET" and (tag := self._known.get(address)):
            request.headers["If-None-Match"] = tag
        try:
            answer = self._bounded(super().send(request, **how | {"stream": True}), time.monotonic() + self._answer_s)
        finally:
            self._next_at = time.monotonic() + self._pause_s
        if answer.status_code == NOT_MODIFIED and address in self._known:
            raise PartlyUnchangedError if self._answers else UnchangedError
        self._answers += 1
        if (tag := answer.headers.get("etag", "")) and len(tag) <= TAG_CHARS_MAX and len(self.tags) < TAGS_MAX:
            self.tags[address] = tag
        return answer

    @staticmethod
    def _bounded(answer: httpx.Response, until: float) -> httpx.Response:
        """Read whole, as far as it may go."""
        try:
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise NonsenseError("the answer is encoded, which was not asked for")
            body = bytearray()
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise NonsenseError("the answer is too large")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the answer takes too long", request=answer.request)
        finally:
            answer.close()
        headers = [(name, text) for name, text in answer.headers.multi_items() if name != "transfer-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)
