"""An order's tickets as one PDF. The one seam of rendering: whatever replaces it keeps `render(document) -> bytes`.

Nothing is fetched, neither from the network nor from a file, and no clock is asked: the same document gives the same bytes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NoReturn

from typing_extensions import override
from weasyprint import CSS, HTML
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher

from services.delivery import templates
from services.delivery.documents import Document


class FetchRefusedError(FatalURLFetchingError):  # type: ignore[misc]  # weasyprint ships no types
    """A template asked for something from outside."""


class Nothing(URLFetcher):  # type: ignore[misc]  # weasyprint ships no types
    """Fetches nothing, and ends the rendering that asks: a page that lacks something is worse than none."""

    @override
    def fetch(self, url: str, headers: Any = None) -> NoReturn:
        raise FetchRefusedError(f"rendering fetches nothing, and was asked for {url[:60]!r}")


@cache  # parsed once a process: fonts and style are most of what a small document costs
def _style() -> tuple[FontConfiguration, CSS]:
    fonts = FontConfiguration()
    return fonts, CSS(string=templates.text_of("ticket.css"), font_config=fonts, url_fetcher=Nothing())


def render(document: Document) -> bytes:
    """One page a ticket. Tagged, titled and in a language, for those who have it read to them."""
    created = f"{document.issued_at:%Y-%m-%dT%H:%M:%SZ}"
    html = templates.fill("ticket.html", document=document, created=created)
    fonts, style = _style()
    page = HTML(string=html, url_fetcher=Nothing(), base_url=None)
    laid_out = page.render(stylesheets=[style], font_config=fonts)
    name = hashlib.sha256(html.encode()).digest()[:16]
    pdf: bytes = laid_out.write_pdf(pdf_tags=True, pdf_identifier=name, pdf_variant="pdf/ua-1")
    return pdf
