"""Ticket Evolution as a server: it checks its requests, holds orders, and fails on demand."""

from __future__ import annotations

import base64
import hmac
import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode

import httpx

from tests.support.vendors.ticketevolution import FORM, form

TOKEN, SECRET = "0123456789abcdef0123456789abcdef", "/a-secret-of-forty-characters-for-tests/"
FILTERS = frozenset({"state", "type", "page", "per_page", "direct_buyer_type", "updated_at.gte"})
PER_PAGE_MAX = 100


class SignedRequest(NamedTuple):
    method: str
    path: str
    query: dict[str, str]


class Answer(NamedTuple):
    """A response instead of the real one. `hangs`: none, until it is closed."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    hangs: bool = False


class FakeTicketEvolution:
    """`orders` by id; `requests` in order; `refusals`: why it answered 4xx by itself. `fail(...)`
    sets its next responses.
    """

    def __init__(self) -> None:
        self.orders = dict[str, dict[str, Any]]()
        self.requests, self.refusals, self.next = (
            list[SignedRequest](),
            list[str](),
            deque[Answer](),
        )
        self.closing = threading.Event()
        fake = self

        class SignedApiHandler(_Handler):
            vendor = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), SignedApiHandler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    def put(self, *orders: dict[str, Any]) -> None:
        self.orders.update({str(order["id"]): order for order in orders})

    def fail(self, *answers: Answer) -> None:
        self.next.extend(answers)

    def send_webhook(
        self,
        address: str,
        order: Mapping[str, Any],
        event: str = "order_created",
        recipient: str = "seller",
    ) -> httpx.Response:
        """A webhook, as it sends them."""
        return httpx.post(
            address,
            content=form(order, event, recipient),
            headers={"Content-Type": FORM},
            timeout=10,
        )

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        path, _, query = target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        self.requests.append(SignedRequest(method, path, dict(pairs)))
        why = "a GET has no body" if body else self._fault(method, path, query, headers)
        if why is not None:
            self.refusals.append(why)
            return Answer(
                401 if "sign" in why or "sorted" in why or "token" in why else 400,
                json.dumps(why).encode(),
            )
        if self.next:
            return self.next.popleft()
        if path == "/v9/orders":
            return self._index(dict(pairs))
        order = self.orders.get(path.removeprefix("/v9/orders/"))
        return (
            Answer(404, b'{"error":"Not Found"}')
            if order is None
            else Answer(200, json.dumps(order).encode())
        )

    def _fault(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> str | None:
        host = headers.get("host", "").partition(":")[0]
        signature = base64.b64encode(
            hmac.digest(SECRET.encode(), f"{method} {host}{path}?{query}".encode(), "sha256")
        )
        pairs = parse_qsl(query, keep_blank_values=True)
        names = [name for name, _ in pairs]
        checks = {
            "there is no such call": method == "GET"
            and re.fullmatch(r"/v9/orders(/\d+)?", path) is not None,
            "no such token": headers.get("x-token") == TOKEN,
            "the query is not sorted": names == sorted(names),
            "not signed": headers.get("x-signature") == signature.decode(),
            "wrong headers": headers.get("accept") == "application/json"
            and "expect" not in headers,
            "the query is none of a form, or asks for what is not there": FILTERS.issuperset(names)
            and urlencode(pairs) == query,
        }
        return next((why for why, is_good in checks.items() if not is_good), None)

    def _index(self, query: Mapping[str, str]) -> Answer:
        """Sorted by id."""
        page, size = (
            int(query.get("page", "1")),
            min(int(query.get("per_page", "100")), PER_PAGE_MAX),
        )
        wanted = [
            order
            for _, order in sorted(self.orders.items())
            if query.get("state") in {None, order["seller_state"]}
            and query.get("direct_buyer_type") in {None, order["buyer"]["type"]}
            and query.get("updated_at.gte", "") <= order["updated_at"]
        ]
        shown = wanted[(page - 1) * size : page * size] if query.get("type") == "Order" else []
        answer_document = {
            "current_page": page,
            "per_page": size,
            "total_entries": len(wanted),
            "orders": shown,
        }
        return Answer(200, json.dumps(answer_document).encode())


class _Handler(BaseHTTPRequestHandler):
    vendor: FakeTicketEvolution

    def do_GET(self) -> None:
        headers = {name.lower(): text for name, text in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        answer = self.vendor.answer(self.command, self.path, headers, body)
        if answer.hangs:
            self.vendor.closing.wait(30)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, text in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - as above

    def log_message(self, *_about: object) -> None:
        """Log nothing."""
