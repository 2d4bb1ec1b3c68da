"""An order's files: found, or rendered once and kept. Whoever asks again, for a mail, a retry or a
download, gets the same bytes.

Crash: a document's row is written first and its content behind it, so no file stands in the store
that no row names. Killed between the two, the next who asks finds the row and no content, and
renders it again: the same bytes, by the renderer's promise. No transaction is open meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.delivery.blob_store import BlobStore
from services.delivery.printing.documents import Document
from services.delivery.errors import BlobStoreUnavailable, FileDamaged, FileMissing, FilesDiffer
from services.delivery.printing.errors import DesignUnusable
from services.delivery.store import FileIndex, IndexedFile
from services.runtime.errors import StublineError

Outcome = Literal["found", "rendered", "healed", "unkept"]
Look = frozenset[tuple[str, str, str]]  # design, language and campaign of a document's pages
LOOKS_MAX = 1_000


class DocumentRenderer(Protocol):
    """The seam of rendering. What it raises is the document's or its design's fault."""

    def key(self, document: Document) -> bytes:
        """32 bytes that name all that the file depends on. Cheap: nothing is laid out."""

    def language(self, design: str, asked: str) -> str:
        """In which a page of this design is written, when its campaign asks for this language, or
        for none.
        """

    def render(self, document: Document) -> bytes:
        """One PDF. The same document gives the same bytes."""


class CacheTelemetry(Protocol):
    """Is told what happens to files."""

    def named(self, order_id: str) -> None:
        """Rows name the files; their contents are not in the store yet."""

    def file_trouble(self, order_id: str, error: StublineError) -> None:
        """Something is wrong with the store or what is in it. It was got over."""


@dataclass(frozen=True, slots=True)
class CachedDocument:
    """A file, and how we came by it. Unkept: the store would not take it."""

    pdf: bytes
    sha256: bytes
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DocumentCache:
    """The store saves work and is no condition: while it is away, files are rendered, used, and not
    kept.
    """

    register: Callable[[], FileIndex]
    files: BlobStore
    renderer: DocumentRenderer
    watch: CacheTelemetry
    clock: Callable[[], float]
    _failed: dict[Look, tuple[DesignUnusable, float]] = field(
        default_factory=dict
    )  # until when it is not tried again

    def fetch(self, order_id: str, documents: Sequence[Document]) -> list[CachedDocument]:
        """A file a document, in their sequence. Two round trips for any number; one, when all have
        been rendered before.
        """
        keys = [self.renderer.key(document) for document in documents]
        known = self.register().find(keys)
        lost: set[bytes] = set()
        printed = {
            key: kept
            for key, sha256 in known.items()
            if (kept := self._kept(order_id, sha256, lost))
        }
        if missing := {
            key: document
            for key, document in zip(keys, documents, strict=True)
            if key not in printed
        }:
            printed |= self._rendered(order_id, missing, known, lost)
        return [printed[key] for key in keys]

    def _kept(self, order_id: str, sha256: bytes, lost: set[bytes]) -> CachedDocument | None:
        try:
            return CachedDocument(self.files.get(sha256), sha256, "found")
        except BlobStoreUnavailable as error:
            self.watch.file_trouble(order_id, error)
        except (FileMissing, FileDamaged) as error:
            self.watch.file_trouble(order_id, error)
            lost.add(sha256)
        return None

    def _rendered(
        self,
        order_id: str,
        missing: Mapping[bytes, Document],
        known: Mapping[bytes, bytes],
        lost: set[bytes],
    ) -> dict[bytes, CachedDocument]:
        fresh = {key: self._render(document) for key, document in missing.items()}
        names = {key: hashlib.sha256(pdf).digest() for key, pdf in fresh.items()}
        rows = [
            IndexedFile(key, names[key], len(pdf), len(missing[key].pages))
            for key, pdf in fresh.items()
        ]
        named = self.register().name(order_id, rows, lost)
        self.watch.named(order_id)
        printed = {}
        for key, pdf in fresh.items():
            others = {named[key], known.get(key, named[key])} - {names[key]}
            if others:
                self.watch.file_trouble(order_id, FilesDiffer(differing(names[key], others)))
            is_kept = named[key] == names[key] and self._keep(order_id, pdf, others)
            outcome: Outcome = "unkept" if not is_kept else "healed" if key in known else "rendered"
            printed[key] = CachedDocument(pdf, names[key], outcome)
        return printed

    def _render(self, document: Document) -> bytes:
        """A design that cannot be printed may take a minute to say so, for each of its campaign's
        orders: it gets a tenth of the time, so that other campaigns go on.
        """
        begun, look = (
            self.clock(),
            frozenset((page.design, page.language, page.campaign_id) for page in document.pages),
        )
        error, until = self._failed.get(look, (None, begun))
        if error is not None and begun < until:
            raise type(error)(error.cause)
        try:
            return self.renderer.render(document)
        except DesignUnusable as error:
            if len(self._failed) >= LOOKS_MAX:
                self._failed.clear()
            now = self.clock()
            self._failed[look] = error, now + 9 * (now - begun)
            raise

    def _keep(self, order_id: str, pdf: bytes, instead_of: set[bytes]) -> bool:
        """Whether the store has it now. What its row named before and no more would be found by
        nobody.
        """
        try:
            for sha256 in instead_of:
                self.files.delete(sha256)
            self.files.put(pdf)
        except BlobStoreUnavailable as error:
            self.watch.file_trouble(order_id, error)
            return False
        return True


def differing(sha256: bytes, others: set[bytes]) -> str:
    return (
        f"rendered as {sha256.hex()} here, and as "
        f"{', '.join(sorted(other.hex() for other in others))} before"
    )
