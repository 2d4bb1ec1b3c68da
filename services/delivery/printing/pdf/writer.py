"""Writes stamped pages as one file of PDF 1.7.

A file begins with its shared objects (those that do not depend on a ticket's texts) and its fonts;
the pages' contents, title and dates follow. Shared objects are cached by their plates and fonts by
their glyphs, so that the next ticket of a design costs its contents and a hash.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from struct import Struct

from services.delivery.printing import fast
from services.delivery.printing.design.links import action
from services.delivery.printing.fast import DeflateBlocks, Template
from services.delivery.printing.fonts.faces import FontSubsets, require_subset
from services.delivery.printing.lru_cache import LruCache
from services.delivery.printing.pdf.fonts import FONT_OBJECTS, FontObjects, add_font, resource_name
from services.delivery.printing.pdf.metadata import (
    DocumentMetadata,
    info_dictionary,
    pdf_string,
    xmp,
)
from services.delivery.printing.pdf.page_templates import templates_of
from services.delivery.printing.plates import Placeholder, Plate

HEADER = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
CATALOG, PAGES, ROOT, TREE, DOCUMENT = 1, 2, 3, 4, 5
FIRST_FREE = 6
# Of a cross-reference stream: kind, offset or object stream, generation or index.
ROW = Struct(">BIH")
FREE = (0, 0, 65_535)  # a number that no object has
PACKED_OBJECTS_MAX = 200  # of one object stream: a reader that needs one decompresses them all
PACKED_LEVEL = 3  # of zlib: these objects are much alike
FILES_CACHED_MAX, FILE_PAGES_CACHED_MAX = 64, 20
BLOCKS_MAX = 256  # cached fonts with their glyphs
CACHED_MAX = 64  # cached plates and faces


@dataclass(frozen=True, slots=True)
class StampedPage:
    """One ticket's page."""

    plate: Plate
    content: bytes  # operators, compressed
    rare: frozenset[tuple[str, int]]  # face and glyph of what they show beside common glyphs
    links: tuple[bytes, ...] = ()  # the addresses of its own links


@dataclass(slots=True)
class SharedObjects:
    """All objects of a file that do not depend on a ticket's texts."""

    body: bytes
    # Of the cross-reference stream: before those of fonts, and after them.
    rows: tuple[bytes, bytes]
    faces: tuple[tuple[str, int], ...]  # each with the number of its font's first object
    size: int  # the next free object number
    digest: bytes = b""  # of the body


@dataclass(slots=True)
class FontBlock:
    """A font's objects, with offsets that count from the block's own beginning."""

    body: bytes
    rows: list[tuple[int, int, int]]
    digest: bytes

    def rows_at(self, at: int) -> bytes:
        return b"".join(
            [
                ROW.pack(kind, place + at if kind == 1 else place, index)
                for kind, place, index in self.rows
            ]
        )


@dataclass(slots=True)
class FilePrefix:
    """The beginning of a file: its shared objects and fonts, up to the first page's contents."""

    body: bytes
    size: int
    digest: bytes
    rows: DeflateBlocks  # of the cross-reference stream


@dataclass
class FileBodyBuilder:
    """A file's objects as they are written: streams with their offsets for the cross-reference
    stream, and all others packed into object streams.
    """

    parts: list[bytes] = field(default_factory=lambda: [HEADER])
    at: int = len(HEADER)
    rows: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    packed: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, number: int, body: bytes, stream: bytes | None = None) -> None:
        if stream is None:
            self.packed.append((number, body))
        else:
            self._put(number, b"%b\nstream\n%b\nendstream" % (body, stream))

    def _put(self, number: int, body: bytes) -> None:
        item = b"%d 0 obj\n%b\nendobj\n" % (number, body)
        self.rows[number] = (1, self.at, 0)
        self.parts.append(item)
        self.at += len(item)

    def rows_of(self, numbers: Iterable[int]) -> list[bytes]:
        return [ROW.pack(*self.rows.get(number, FREE)) for number in numbers]

    def pack(self, number: int) -> int:
        """Put the waiting objects into object streams. Return the next free number."""
        for start in range(0, len(self.packed), PACKED_OBJECTS_MAX):
            batch = self.packed[start : start + PACKED_OBJECTS_MAX]
            offset, heads = 0, []
            for index, (own, body) in enumerate(batch):
                heads.append(b"%d %d" % (own, offset))
                offset += len(body) + 1
                self.rows[own] = (2, number, index)
            head = b" ".join(heads) + b"\n"
            inside = zlib.compress(head + b"\n".join([body for _, body in batch]), PACKED_LEVEL)
            self._put(
                number,
                b"<</Type/ObjStm/N %d/First %d/Filter/FlateDecode/Length %d>>"
                b"\nstream\n%b\nendstream" % (len(batch), len(head), len(inside), inside),
            )
            number += 1
        self.packed.clear()
        return number


class PdfWriter:
    """Writes PDF files, and caches what they share. Not shared between threads."""

    def __init__(self, subsets: FontSubsets) -> None:
        self._subsets = subsets
        self._shared_objects: LruCache[object, SharedObjects] = LruCache(
            entries_max=FILES_CACHED_MAX
        )
        self._prefixes: LruCache[object, FilePrefix] = LruCache(entries_max=FILES_CACHED_MAX)
        self._blocks: LruCache[object, FontBlock] = LruCache(entries_max=BLOCKS_MAX)
        self._fonts: LruCache[str, FontObjects] = LruCache(entries_max=CACHED_MAX)
        self._templates: LruCache[object, list[Template]] = LruCache(entries_max=CACHED_MAX)

    def write(self, pages: Sequence[StampedPage], metadata: DocumentMetadata) -> bytes:
        """Return the file. The same pages and metadata give the same bytes. Raises ValueError if
        there is no page, because readers refuse such a file.
        """
        if not pages:
            raise ValueError("a document has one page at least")
        prefix = self._prefix_of(pages, metadata.language)
        parts, at, rows = [prefix.body], len(prefix.body), list[bytes]()
        bodies = bodies_of(pages, metadata)
        for number, body in enumerate(bodies, prefix.size):
            item = b"%d 0 obj\n%b\nendobj\n" % (number, body)
            rows.append(ROW.pack(1, at, 0))
            parts.append(item)
            at += len(item)
        rows.append(ROW.pack(1, at, 0))
        digest = hashlib.sha256(prefix.digest)
        for body in bodies:
            digest.update(body)
        name = digest.hexdigest()[:32].encode()
        entries = fast.zlib_stream(prefix.rows, fast.stored(b"".join(rows)))
        table = prefix.size + len(bodies)
        info = table - 2  # before the last body, which is the XMP metadata
        parts.append(
            b"%d 0 obj\n<</Type/XRef/Size %d/W[1 4 2]/Root %d 0 R/Info %d 0 R/ID[<%b><%b>]"
            b"/Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream\nendobj\n"
            b"startxref\n%d\n%%%%EOF\n"
            % (table, table + 1, CATALOG, info, name, name, len(entries), entries, at)
        )
        return b"".join(parts)

    def _prefix_of(self, pages: Sequence[StampedPage], language: str) -> FilePrefix:
        key = (tuple(page.plate.digest for page in pages), language)
        rare = frozenset(chain.from_iterable(page.rare for page in pages))
        if len(pages) > FILE_PAGES_CACHED_MAX:
            return self._with_fonts(self._shared([page.plate for page in pages], language), rare)

        def prefix() -> FilePrefix:
            built = self._shared_objects.get_or(
                key, lambda: self._shared([page.plate for page in pages], language)
            )
            return self._with_fonts(built, rare)

        return self._prefixes.get_or((key, rare), prefix)

    def _with_fonts(self, shared: SharedObjects, rare: frozenset[tuple[str, int]]) -> FilePrefix:
        parts, rows = [shared.body], [shared.rows[0]]
        at, digest = len(shared.body), hashlib.sha256(shared.digest)
        for block in self._blocks_of(shared, rare):
            rows.append(block.rows_at(at))
            parts.append(block.body)
            at += len(block.body)
            digest.update(block.digest)
        entries = fast.compressed(b"".join([*rows, shared.rows[1]]), PACKED_LEVEL)
        return FilePrefix(b"".join(parts), shared.size, digest.digest(), entries)

    def _shared(self, plates: Sequence[Plate], language: str) -> SharedObjects:
        builder, number = FileBodyBuilder(), FIRST_FREE
        faces = tuple(
            (face, number + FONT_OBJECTS * at)
            for at, face in enumerate(sorted({face for plate in plates for face in plate.faces}))
        )
        after_fonts = FIRST_FREE + FONT_OBJECTS * len(faces)
        known, number = self._add_plates(builder, plates, language, faces, after_fonts)
        starts = []
        for plate in plates:
            starts.append(number)
            number += len(plate.page)
        waiting = len(builder.packed) + sum(len(plate.page) for plate in plates) + 5
        contents = number - (-waiting // PACKED_OBJECTS_MAX)
        add_pages(builder, plates, known, starts, contents)
        links = sum(len(plate.links) for plate in plates)
        add_document(builder, plates, starts, language, contents + len(plates) + links + 1)
        if builder.pack(number) != contents:
            raise RuntimeError("more object streams than were counted")
        body = b"".join(builder.parts)
        rows = [
            b"".join(builder.rows_of(numbers))
            for numbers in (range(FIRST_FREE), range(after_fonts, contents))
        ]
        return SharedObjects(
            body, (rows[0], rows[1]), faces, contents, hashlib.sha256(body).digest()
        )

    def _add_plates(
        self,
        builder: FileBodyBuilder,
        plates: Sequence[Plate],
        language: str,
        faces: Sequence[tuple[str, int]],
        number: int,
    ) -> tuple[dict[str, tuple[int, Sequence[Template]]], int]:
        """Add what the pages of each plate share. Return the first object and the templates of each
        plate by its digest, and the next free number.
        """
        fonts = b"".join(
            [b"/%b %d 0 R" % (resource_name(face), first + 1) for face, first in faces]
        )
        known = dict[str, tuple[int, Sequence[Template]]]()
        for plate in plates:
            if plate.digest not in known:
                make = partial(templates_of, plate, language)
                templates = self._templates.get_or((plate.digest, language), make)
                known[plate.digest] = number, templates
                number = add_shared(builder, number, plate, fonts)
        return known, number

    def _blocks_of(
        self, shared: SharedObjects, rare: frozenset[tuple[str, int]]
    ) -> Iterator[FontBlock]:
        for face, first in shared.faces:
            own = frozenset([glyph for owner, glyph in rare if owner == face])
            yield self._blocks.get_or((face, first, own), partial(self._block, face, first, own))

    def _block(self, face: str, first: int, rare: frozenset[int]) -> FontBlock:
        builder = FileBodyBuilder([], 0)
        fonts = self._fonts.get_or(face, lambda: FontObjects(require_subset(self._subsets, face)))
        add_font(builder.add, first + 1, fonts, rare)
        builder.pack(first)
        body = b"".join(builder.parts)
        rows = [builder.rows.get(number, FREE) for number in range(first, first + FONT_OBJECTS)]
        return FontBlock(body, rows, hashlib.sha256(body).digest())


def bodies_of(pages: Sequence[StampedPage], metadata: DocumentMetadata) -> list[bytes]:
    """Return the objects after the prefix: contents, links' actions, Info, XMP metadata."""
    xml = xmp(metadata)
    return [
        *(
            b"<</Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream"
            % (len(page.content), page.content)
            for page in pages
        ),
        *(action(address) for page in pages for address in page.links),
        info_dictionary(metadata),
        b"<</Type/Metadata/Subtype/XML/Length %d>>\nstream\n%b\nendstream" % (len(xml), xml),
    ]


def add_shared(builder: FileBodyBuilder, number: int, plate: Plate, fonts: bytes) -> int:
    numbers: dict[Placeholder, bytes] = {
        ("shared", index): b"%d" % (number + index) for index in range(len(plate.shared))
    }
    numbers["fonts", 0] = fonts
    for index, plate_object in enumerate(plate.shared):
        builder.add(number + index, plate_object.filled(numbers), plate_object.stream)
    return number + len(plate.shared)


def add_pages(
    builder: FileBodyBuilder,
    plates: Sequence[Plate],
    known: Mapping[str, tuple[int, Sequence[Template]]],
    starts: Sequence[int],
    contents: int,
) -> None:
    annotation, link = len(plates), contents + len(plates)
    for index, (plate, start) in enumerate(zip(plates, starts, strict=True)):
        (base, templates), links = known[plate.digest], len(plate.annotated)
        numbers = [
            *range(start, start + len(plate.page)),
            *range(base, base + len(plate.shared)),
            *(PAGES, DOCUMENT, contents + index, index),
            *range(annotation, annotation + links),
            *range(link, link + len(plate.links)),
        ]
        annotation += links
        link += len(plate.links)
        for at, (template, select) in enumerate(templates, start):
            builder.add(at, template % select(numbers))


def add_document(
    builder: FileBodyBuilder,
    plates: Sequence[Plate],
    starts: Sequence[int],
    language: str,
    metadata: int,
) -> None:
    kids = b" ".join(b"%d 0 R" % start for start in starts)
    roots = b" ".join(
        b"%d 0 R" % (start + at)
        for plate, start in zip(plates, starts, strict=True)
        for at in plate.roots
    )
    nums = [
        b"%d [%b]" % (index, b" ".join(b"%d 0 R" % (start + at) for at in plate.marks))
        for index, (plate, start) in enumerate(zip(plates, starts, strict=True))
    ]
    elements = [
        start + element
        for plate, start in zip(plates, starts, strict=True)
        for _, element in plate.annotated
    ]
    nums += [
        b"%d %d 0 R" % (len(plates) + index, element) for index, element in enumerate(elements)
    ]
    builder.add(
        CATALOG,
        b"<</Type/Catalog/Pages %d 0 R/Lang %b/StructTreeRoot %d 0 R/MarkInfo<</Marked true>>"
        b"/ViewerPreferences<</DisplayDocTitle true>>/Metadata %d 0 R>>"
        % (PAGES, pdf_string(language), ROOT, metadata),
    )
    builder.add(PAGES, b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(plates), kids))
    builder.add(ROOT, b"<</Type/StructTreeRoot/ParentTree %d 0 R/K[%d 0 R]>>" % (TREE, DOCUMENT))
    builder.add(TREE, b"<</Nums[%b]>>" % b" ".join(nums))
    builder.add(DOCUMENT, b"<</Type/StructElem/S/Document/P %d 0 R/K[%b]>>" % (ROOT, roots))
