"""Stripe's API as far as polls use it: events that were not delivered, newest first, and the
webhook's endpoints.
"""

from __future__ import annotations

from typing import Any

from tests.support.vendors.fake_server import FakeResponse, FakeVendor, Refused, SentRequest

KEY = "rk_of-the-shop"
LISTING = frozenset({"limit", "delivery_success", "created[gte]", "starting_after"})


class FakeStripe(FakeVendor):
    """`events` has the id and second of each event, in the order in which they came. `delivered`
    has the ids of those that an endpoint accepted; `sent_to_none` of those that came while no
    endpoint was enabled, which are in neither of Stripe's two lists. `kinds` has the type of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, int]] = []
        self.delivered, self.sent_to_none, self.kinds = set[str](), set[str](), dict[str, str]()
        self.hides_endpoints = False
        self.endpoints: list[dict[str, Any]] = []

    def put(self, created: int, kind: str = "payment_intent.succeeded") -> str:
        name = f"evt_{len(self.events):06d}"
        self.events.append((name, created))
        self.kinds[name] = kind
        if all(endpoint["status"] != "enabled" for endpoint in self.endpoints):
            self.sent_to_none.add(name)
        return name

    def add_endpoint(self, slug: str, status: str = "enabled") -> None:
        url = f"https://endpoint.example.org/hooks/{slug}"
        self.endpoints.append({"id": f"we_{len(self.endpoints)}", "status": status, "url": url})

    def body(self, name: str, created: int) -> dict[str, Any]:
        paid = {
            "id": f"pi_{name}",
            "object": "payment_intent",
            "amount": 1_500,
            "amount_received": 1_500,
            "currency": "eur",
        }
        event = {
            "id": name,
            "object": "event",
            "created": created,
            "type": self.kinds[name],
            "livemode": True,
        }
        return event | {"data": {"object": paid}}

    def answer(self, request: SentRequest) -> FakeResponse:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "Invalid API Key provided", is_fault=False)
        if request.path == "/v1/webhook_endpoints":
            if self.hides_endpoints:
                return FakeResponse(403, {"error": {"type": "invalid_request_error"}})
            return FakeResponse(200, {"object": "list", "data": self.endpoints, "has_more": False})
        if request.path != "/v1/events":
            raise Refused(404, "Unrecognized request URL")
        parameters = request.parameters
        if unknown_parameters := parameters.keys() - LISTING:
            raise Refused(400, f"unknown parameters: {sorted(unknown_parameters)}")
        if (
            parameters.get("delivery_success", "false") != "false"
            or not 1 <= int(parameters["limit"]) <= 100
        ):
            raise Refused(400, f"malformed request: {dict(parameters)}")
        names = [name for name, _ in self.events]
        if (after := parameters.get("starting_after")) is not None and after not in names:
            raise Refused(400, "No such event")
        listed = self.events[: names.index(after)] if after is not None else self.events
        left = [
            (name, created)
            for name, created in reversed(listed)
            if created >= int(parameters["created[gte]"])
            and (
                "delivery_success" not in parameters
                or name not in self.delivered | self.sent_to_none
            )
        ]
        page = [self.body(name, created) for name, created in left[: int(parameters["limit"])]]
        return FakeResponse(
            200, {"object": "list", "data": page, "has_more": len(left) > len(page)}
        )
