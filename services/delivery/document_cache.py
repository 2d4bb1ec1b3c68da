"""An order's files. What can be stamped is stamped whenever it is needed: that takes less time than
storing and finding it. What has to be laid out is rendered once and stored, and every later request
gets the same bytes.

Crash: a document's row is written before its content, so every ticket file in the store has a row.
If the process dies between the two, the next request finds the row and no content, and renders the
file again, which gives the same bytes. No transaction is open meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from services.delivery.blob_store import BlobStore
from services.delivery.errors import BlobStoreUnavailable, FileDamaged, FileMissing, FilesDiffer
from services.delivery.printing.documents import Document
from services.delivery.printing.errors import DesignUnusable
from services.delivery.store import FileIndex, IndexedFile
from services.runtime.errors import StublineError

Outcome = Literal["stamped", "found", "rendered", "repaired", "unstored"]
DesignUse = frozenset[tuple[str, str, str]]  # design, language and campaign of a document's pages
FAILED_DESIGNS_MAX = 1_000
T = TypeVar("T")


class DocumentRenderer(Protocol):
    """Renders documents. Its errors are faults of the document or of its design."""

    def key(self, document: Document) -> bytes:
        """Return 32 bytes that name all that the file depends on. Nothing is laid out for it."""

    def language(self, design: str, requested: str) -> str:
        """Return the language of a page of this design for the language that its campaign requests,
        which may be empty.
        """

    def stamp(self, document: Document) -> bytes | None:
        """Return one PDF, or None if something would have to be compiled or laid out for it."""

    def compile(self, document: Document) -> None:
        """Compile what the document lacks, so that it can be stamped if its texts can."""

    def render(self, document: Document) -> bytes:
        """Return one PDF. The same document gives the same bytes, stamped or laid out."""


class CacheTelemetry(Protocol):
    """Receives what happens to files."""

    def files_indexed(self, order_id: str) -> None:
        """Rows name the files; their contents are not in the store yet."""

    def file_failed(self, order_id: str, error: StublineError) -> None:
        """The store or a file in it failed. The document was delivered all the same."""


@dataclass(frozen=True, slots=True)
class CachedDocument:
    """A file, and whether it was rendered now. `unstored`: the store did not take it."""

    pdf: bytes
    sha256: bytes
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DocumentCache:
    """Stamps documents, finds them in the store, or renders them. While the store is unavailable,
    files are rendered and used, and not stored.
    """

    index: Callable[[], FileIndex]
    files: BlobStore
    renderer: DocumentRenderer
    telemetry: CacheTelemetry
    clock: Callable[[], float]
    # Designs that failed, with the time before which they are not tried again.
    _failed: dict[DesignUse, tuple[DesignUnusable, float]] = field(default_factory=dict)

    def stamp(self, documents: Sequence[Document]) -> list[CachedDocument] | None:
        """Return a file per document, or None unless all can be stamped. Takes no round trip."""
        files = []
        for document in documents:
            if (pdf := self.renderer.stamp(document)) is None:
                return None
            files.append(CachedDocument(pdf, hashlib.sha256(pdf).digest(), "stamped"))
        return files

    def fetch(self, order_id: str, documents: Sequence[Document]) -> list[CachedDocument]:
        """Return a file per document, in their order. What has to be laid out takes two round
        trips, however many there are, or one if all has been rendered before.
        """
        for document in documents:
            self._attempted(document, self.renderer.compile)
        if (stamped := self.stamp(documents)) is not None:
            return stamped
        keys = [self.renderer.key(document) for document in documents]
        known = self.index().find(keys)
        lost: set[bytes] = set()
        files = {
            key: file
            for key, sha256 in known.items()
            if (file := self._stored(order_id, sha256, lost))
        }
        if missing := {
            key: document for key, document in zip(keys, documents, strict=True) if key not in files
        }:
            files |= self._render_missing(order_id, missing, known, lost)
        return [files[key] for key in keys]

    def _stored(self, order_id: str, sha256: bytes, lost: set[bytes]) -> CachedDocument | None:
        try:
            return CachedDocument(self.files.get(sha256), sha256, "found")
        except BlobStoreUnavailable as error:
            self.telemetry.file_failed(order_id, error)
        except (FileMissing, FileDamaged) as error:
            self.telemetry.file_failed(order_id, error)
            lost.add(sha256)
        return None

    def _render_missing(
        self,
        order_id: str,
        missing: Mapping[bytes, Document],
        known: Mapping[bytes, bytes],
        lost: set[bytes],
    ) -> dict[bytes, CachedDocument]:
        rendered = {
            key: self._attempted(document, self.renderer.render)
            for key, document in missing.items()
        }
        hashes = {key: hashlib.sha256(pdf).digest() for key, pdf in rendered.items()}
        rows = [
            IndexedFile(key, hashes[key], len(pdf), len(missing[key].pages))
            for key, pdf in rendered.items()
        ]
        indexed = self.index().record(order_id, rows, lost)
        self.telemetry.files_indexed(order_id)
        files = {}
        for key, pdf in rendered.items():
            others = {indexed[key], known.get(key, indexed[key])} - {hashes[key]}
            if others:
                difference = describe_difference(hashes[key], others)
                self.telemetry.file_failed(order_id, FilesDiffer(difference))
            is_stored = indexed[key] == hashes[key] and self._store(order_id, pdf, others)
            outcome: Outcome = (
                "unstored" if not is_stored else "repaired" if key in known else "rendered"
            )
            files[key] = CachedDocument(pdf, hashes[key], outcome)
        return files

    def _attempted(self, document: Document, work: Callable[[Document], T]) -> T:
        """Compile or render one document. A design that cannot be printed may take a minute to
        fail, for each order of its campaign. So it gets a tenth of the time, and other campaigns
        are printed meanwhile.
        """
        begun = self.clock()
        use = frozenset((page.design, page.language, page.campaign_id) for page in document.pages)
        error, until = self._failed.get(use, (None, begun))
        if error is not None and begun < until:
            raise type(error)(error.cause)
        try:
            return work(document)
        except DesignUnusable as error:
            if len(self._failed) >= FAILED_DESIGNS_MAX:
                self._failed.clear()
            now = self.clock()
            self._failed[use] = error, now + 9 * (now - begun)
            raise

    def _store(self, order_id: str, pdf: bytes, replaced: set[bytes]) -> bool:
        """Store a file, and return whether the store has it now. Contents that no row names any
        more are removed first.
        """
        try:
            for sha256 in replaced:
                self.files.delete(sha256)
            self.files.put(pdf)
        except BlobStoreUnavailable as error:
            self.telemetry.file_failed(order_id, error)
            return False
        return True


def describe_difference(sha256: bytes, others: set[bytes]) -> str:
    before = ", ".join(sorted(other.hex() for other in others))
    return f"rendered as {sha256.hex()} here, and as {before} before"
