"""What the laws of every source need of a vendor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.ingest import vendors
from services.ingest.vendors.shared.source import Source, WebhookRequest
from services.runtime.records import Record
from tests.support import callbacks

NOW = 1_795_188_608.0  # 2026-11-20T15:30:08Z


class Sample(NamedTuple):
    """A body as the vendor sends it, and the type that it names beside the body, if any."""

    body: bytes
    callback_type: str = ""


@dataclass(frozen=True)
class Vendor:
    """`sign(sample, secret, at)` returns the headers (lower case) with which the vendor sends it,
    by its clock (seconds since 1970).
    """

    kind: str
    secret: str  # as the vendor's page shows it
    other_secret: str
    samples: Mapping[str, Sample]
    sign: Callable[[Sample, str, float], Mapping[bytes, bytes]]
    signs_time: bool = False  # then too old and too new deliveries are refused
    signs_body: bool = True  # a vendor without signatures only shows a password
    options: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    path_suffix: str = ""
    seal: Callable[[bytes, str], bytes] | None = (
        None  # for a signature in the body: sets it, by a secret or by none
    )
    body_for_source: Callable[[bytes, str], bytes] = lambda body, _slug: (
        body
    )  # a body that names its source: for another one
    card_data: tuple[bytes, ...] = ()  # in samples, and never in records

    @property
    def source(self) -> Source:
        return vendors.WEBHOOK_SOURCES[self.kind]

    def request(
        self, sample: Sample, secret: str | None = None, *, at: float = NOW, now: float = NOW
    ) -> WebhookRequest:
        """Return the request as the endpoint, which knows both secrets, receives it."""
        known = [self.source.signing_key(secret) for secret in (self.secret, self.other_secret)]
        headers = self.sign(sample, self.secret if secret is None else secret, at)
        body = (
            sample.body if self.seal is None or secret is None else self.seal(sample.body, secret)
        )
        return WebhookRequest(
            headers,
            body,
            known,
            now,
            path_suffix=self.path_suffix,
            options=self.options,
            certificates=self.certificates,
        )

    def record(self, sample: Sample, *, slug: str = "vendor", reception_id: str = "a-1") -> Record:
        """Return the record that the endpoint publishes; of several pieces the first."""
        body = self.source.without_cards(
            self.source.unwrap(self.body_for_source(sample.body, slug))
        )
        piece = self.source.split_events(body)[0]
        return callbacks.record(
            piece,
            callback_type=sample.callback_type,
            kind=self.source.type,
            source=slug,
            order=next(iter(self.source.order_ids(piece)), None) or "?0123456789abcdef",
            reception_id=self.source.event_id(self.request(sample)) or reception_id,
            orders_of="shop" if self.source.needs_orders_of else "",
            content_type=self.source.media.decode(),
        )
