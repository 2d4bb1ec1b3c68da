"""The webhook endpoint's application: each callback is answered only when Kafka has acknowledged
it.

`POST /hooks/{source}` is refused, in this order: 404 unknown source, 405 method, 503 source without
its secrets, 415 content type, 413 too large, 503 no room, 429 too many requests, 408 too slow, 503
the vendor's certificate is unavailable, 401 wrong signature, 429 too many callbacks, 503 Kafka does
not acknowledge. Only genuine callbacks count towards their source's rate; repeats have a rate of
their own, and so have unsigned forms (pings). A signed callback is never refused for its content:
the worker decides on that.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.text import rfc3339
from services.ingest.callback_records import UNKNOWN_ID, records
from services.ingest.config.sources_file import WEBHOOK_PATH_PREFIX, SourceConfig
from services.ingest.metrics import WEBHOOK_CALLBACKS, WEBHOOK_IN_FLIGHT
from services.ingest.settings import IngestSettings
from services.ingest.vendors.shared.source import FORM, CertificateNeededError, WebhookRequest
from services.ingest.webhooks.bodies import TOO_MANY_CALLBACKS, RequestBodies
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.publisher import CallbackNotAcknowledgedError, CallbackPublisher
from services.ingest.webhooks.rate_limit import BURST_S, SourceRateLimits
from services.ingest.webhooks.responses import (
    ProblemError,
    WebhookResponse,
    accepted,
    retry_later,
    too_large,
    too_many_requests,
)
from services.runtime.failures.token_bucket import TokenBucket
from services.runtime.observability import logs, tracing

CALLBACK_TYPE_CHARS_MAX = 128
PINGS_PER_S = 50.0  # of one source; WooCommerce sends one when a webhook is saved


class WebhookHandler:
    """The ASGI application that serves /hooks/. It bypasses the framework's layers, because a flood
    of callbacks takes this path.
    """

    def __init__(
        self,
        configs: Mapping[str, SourceConfig],
        publisher: CallbackPublisher,
        settings: IngestSettings,
        certificates: CertificateCache | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._configs, self._publisher, self._settings = configs, publisher, settings
        self._certificates = certificates or CertificateCache()
        self._wall = wall
        self._responses = {
            config.slug: accepted(config.source.response_body) for config in configs.values()
        }
        self._bodies = RequestBodies(settings)
        self._rate_limits = {
            config.slug: SourceRateLimits(config.rate_max or settings.webhook_source_rate_max)
            for config in configs.values()
        }
        self._ping_limits = {slug: TokenBucket(PINGS_PER_S, BURST_S) for slug in self._rate_limits}
        self._answered: Counter[tuple[str, int]] = Counter()
        self._log = logs.get("webhooks")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        slug, _, path_suffix = scope["path"].removeprefix(WEBHOOK_PATH_PREFIX).partition("/")
        config = self._configs.get(slug)
        if path_suffix and config is not None and not config.source.uses_path_suffix:
            config = None
        try:
            response = await self._respond(config, path_suffix.removesuffix("/"), scope, receive)
        except ProblemError as error:
            response = error.response()
        except Exception as error:  # noqa: BLE001 - a defect is answered too, and logged
            self._log.exception("unhandled error in webhook handler", error=type(error).__name__)
            response = ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "unhandled error in the webhook handler"
            ).response()
        self._answered[config.slug if config else UNKNOWN_ID, response.status] += 1
        await send(
            {"type": "http.response.start", "status": response.status, "headers": response.headers}
        )
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(
        self, config: SourceConfig | None, path_suffix: str, scope: Scope, receive: Receive
    ) -> WebhookResponse:
        headers = dict(scope["headers"])  # if a header is repeated, the last value wins
        if config is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "there is no source with that name", connection="close"
            )
        media = self._check(config, scope["method"], headers)
        with self._bodies.place() as body:
            request = self._request(
                config, path_suffix, headers, await self._bodies.read(receive, body)
            )
            if media not in (config.source.media, config.source.other_media):
                return self._answer_ping(config, request)
            if not await self._is_genuine(config, request):
                raise ProblemError(HTTPStatus.UNAUTHORIZED, "the signature does not fit")
            if not self._rate_limits[config.slug].take(time.monotonic(), request.body):
                raise too_many_requests()
            await self._publish(config, request)
            self._rate_limits[config.slug].remember(request.body)
        return self._responses[config.slug]

    def _request(
        self, config: SourceConfig, path_suffix: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> WebhookRequest:
        tolerance_s = self._settings.webhook_clock_tolerance_s
        known = self._certificates.known
        return WebhookRequest(
            headers,
            body,
            config.secrets,
            self._wall(),
            tolerance_s,
            path_suffix,
            config.options,
            known,
        )

    async def _is_genuine(self, config: SourceConfig, request: WebhookRequest) -> bool:
        try:
            return config.source.verify(request)
        except CertificateNeededError as needed:
            url = needed.url
        if not await self._certificates.fetch(url):
            raise self._retry_later("the vendor's certificate is unavailable")
        try:
            is_genuine = config.source.verify(request)
        except CertificateNeededError:
            return False
        if is_genuine:
            self._certificates.mark_proven(url)
        return is_genuine

    def _check(self, config: SourceConfig, method: str, headers: Mapping[bytes, bytes]) -> bytes:
        """Refuse what can be refused before the body is read. Return the media type."""
        if method != "POST":
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "callbacks are POST",
                allow="POST",
                connection="close",
            )
        if config.refusal is not None:
            raise self._retry_later("the source has no secret")
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if (
            media not in (config.source.media, config.source.other_media or FORM, FORM)
            or headers.get(b"content-encoding", b"identity") != b"identity"
        ):
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"callbacks are {config.source.media.decode()}, not encoded",
                connection="close",
            )
        length = headers.get(b"content-length", b"0")
        if len(length) > 12 or (
            length.isdigit() and int(length) > self._settings.webhook_body_bytes_max
        ):
            raise too_large(self._settings.webhook_body_bytes_max)
        if not self._bodies.has_room():
            raise self._retry_later(TOO_MANY_CALLBACKS)
        now = time.monotonic()
        if media in (config.source.media, config.source.other_media):
            is_within_rate = self._rate_limits[config.slug].has_room(now)
        else:  # perhaps a ping
            is_within_rate = self._ping_limits[config.slug].take(now)
        if not is_within_rate:
            raise too_many_requests()
        return media

    def _answer_ping(self, config: SourceConfig, request: WebhookRequest) -> WebhookResponse:
        if not config.source.is_ping(request):
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"callbacks are {config.source.media.decode()}"
            )
        return self._responses[config.slug]

    async def _publish(self, config: SourceConfig, request: WebhookRequest) -> None:
        """Publish one record for each piece. When Kafka takes only some of them, the sender repeats
        the callback, and those are duplicates.
        """
        at = rfc3339(datetime.fromtimestamp(self._wall(), UTC))
        hop = str(tracing.child(tracing.parse(request.headers.get(b"traceparent"))))
        body = config.source.without_cards(config.source.unwrap(request.body))
        event_id = config.source.event_id(request)
        try:
            awaited = [
                self._publisher.publish(record.encode(time=at, traceparent=hop))
                for record in records(
                    config,
                    config.source.callback_type(request.headers)[:CALLBACK_TYPE_CHARS_MAX],
                    body,
                    event_id,
                )
            ]
            # gather retrieves the exceptions of all of them
            await (awaited[0] if len(awaited) == 1 else asyncio.gather(*awaited))
        except CallbackNotAcknowledgedError as error:
            raise self._retry_later(f"the callback could not be published: {error}") from None

    def _retry_later(self, why: str) -> ProblemError:
        return retry_later(why, self._settings.webhook_retry_after_s)

    def report(self) -> None:
        """Report what was answered since the last call, as metrics and in one log line per source.
        Called about once a second.
        """
        answered, self._answered = self._answered, Counter()
        for (source, status), count in answered.items():
            WEBHOOK_CALLBACKS.add(count, source=source, status=str(status))
        WEBHOOK_IN_FLIGHT.set(len(self._bodies))
        for (source, status), count in answered.items():
            if status == HTTPStatus.UNAUTHORIZED:
                self._log.warning("wrong signatures", source=source, count=count)
            elif status == HTTPStatus.TOO_MANY_REQUESTS:
                self._log.warning("rate limit exceeded", source=source, count=count)


class WebhookApp(Starlette):
    """Routes callbacks past the framework, and everything else to it."""

    def __init__(self, callbacks: WebhookHandler, publisher: CallbackPublisher) -> None:
        async def livez(_request: Request) -> Response:
            """Liveness for a load balancer. The health server's port reports more."""
            return liveness_response(None if publisher.is_alive else "the producer has ended")

        routes, handlers = [Route("/livez", livez)], {HTTPException: handle_http_error}
        super().__init__(routes=routes, exception_handlers=handlers)
        self._callbacks: ASGIApp = callbacks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(WEBHOOK_PATH_PREFIX):
            await self._callbacks(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def liveness_response(problem: str | None) -> Response:
    if problem is None:
        return Response("ok\n", media_type="text/plain")
    return problem_response(ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, problem))


async def handle_http_error(_request: Request, error: Exception) -> Response:
    status = (
        HTTPStatus(error.status_code)
        if isinstance(error, HTTPException)
        else HTTPStatus.INTERNAL_SERVER_ERROR
    )
    return problem_response(ProblemError(status, "only POST /hooks/{source} and GET /livez exist"))


def problem_response(error: ProblemError) -> Response:
    answer = error.response()
    return Response(answer.body, answer.status, media_type="application/problem+json")
