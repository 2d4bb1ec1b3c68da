"""The writer: stamped pages to one PDF 1.7. What is the same in every file of its kind is laid down once and kept.

A file is its skeleton (all objects that do not depend on a ticket's texts) and behind it the pages' contents, title and
dates. Skeletons are known by plates, pages and embedded shards, so a shop's next ticket costs its contents and a hash.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from struct import Struct

from services.delivery.rendering.faces import Kits, the_kit
from services.delivery.rendering.links import action
from services.delivery.rendering.pdf_about import About, information, text, xmp
from services.delivery.rendering.pdf_fonts import add_shard, resource
from services.delivery.rendering.plates import Hole, Piece, Plate

HEADER = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
CATALOG, PAGES, ROOT, TREE, DOCUMENT = 1, 2, 3, 4, 5
FIRST_FREE = 6
Form = tuple[bytes, Callable[[Sequence[int]], tuple[int, ...]]]
ROW = Struct(">BIH")  # of a cross-reference stream: kind, offset or object stream, generation or index
PACKED_OBJECTS_MAX = 200  # of one object stream: a reader that wants one unpacks them all
PACKED_LEVEL = 3  # of zlib: these objects are much alike
SKELETONS_MAX, SKELETON_PAGES_MAX = 64, 20


@dataclass(frozen=True, slots=True)
class Page:
    """One ticket: operators, packed, the shards that they use, as (face, index), and where its own links lead."""

    plate: Plate
    content: bytes
    shards: frozenset[tuple[str, int]]
    links: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Skeleton:
    body: bytes
    rows: bytes  # of the cross-reference stream
    size: int  # the next free object number
    told: bytes = b""  # hash of the body


@dataclass
class Draft:
    """Objects as they get their numbers and places."""

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
        whole = b"%d 0 obj\n%b\nendobj\n" % (number, body)
        self.rows[number] = (1, self.at, 0)
        self.parts.append(whole)
        self.at += len(whole)

    def pack(self, number: int) -> int:
        """Object streams of what waits; the next free number."""
        for start in range(0, len(self.packed), PACKED_OBJECTS_MAX):
            some = self.packed[start : start + PACKED_OBJECTS_MAX]
            offset, heads = 0, []
            for index, (own, body) in enumerate(some):
                heads.append(b"%d %d" % (own, offset))
                offset += len(body) + 1
                self.rows[own] = (2, number, index)
            head = b" ".join(heads) + b"\n"
            inside = zlib.compress(head + b"\n".join([body for _, body in some]), PACKED_LEVEL)
            self._put(
                number,
                b"<</Type/ObjStm/N %d/First %d/Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream"
                % (len(some), len(head), len(inside), inside),
            )
            number += 1
        self.packed.clear()
        return number


class Writer:
    """Keeps skeletons. Not shared between threads."""

    def __init__(self, kits: Kits) -> None:
        self._kits = kits
        self._skeletons: OrderedDict[object, Skeleton] = OrderedDict()

    def write(self, pages: Sequence[Page], about: About) -> bytes:
        """The same pages and the same words about them are the same bytes. Raises ValueError for no page: readers refuse such a file."""
        if not pages:
            raise ValueError("a document has one page at least")
        skeleton = self._skeleton(pages, about.language)
        parts, at, rows = [skeleton.body], len(skeleton.body), [skeleton.rows]
        number = skeleton.size
        own = [action(address) for page in pages for address in page.links]
        info = number + len(pages) + len(own)
        table = info + 2
        said = information(about)
        xml = xmp(about)
        bodies = [
            b"<</Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream" % (len(page.content), page.content)
            for page in pages
        ]
        bodies += [*own, said, b"<</Type/Metadata/Subtype/XML/Length %d>>\nstream\n%b\nendstream" % (len(xml), xml)]
        for body in bodies:
            whole = b"%d 0 obj\n%b\nendobj\n" % (number, body)
            rows.append(ROW.pack(1, at, 0))
            parts.append(whole)
            at += len(whole)
            number += 1
        rows.append(ROW.pack(1, at, 0))
        told = hashlib.sha256(skeleton.told)
        for body in bodies:
            told.update(body)
        name = told.hexdigest()[:32].encode()
        entries = b"".join(rows)
        parts.append(
            b"%d 0 obj\n<</Type/XRef/Size %d/W[1 4 2]/Root %d 0 R/Info %d 0 R/ID[<%b><%b>]/Length %d>>\nstream\n%b\nendstream\nendobj\n"
            b"startxref\n%d\n%%%%EOF\n" % (table, table + 1, CATALOG, info, name, name, len(entries), entries, at)
        )
        return b"".join(parts)

    def _skeleton(self, pages: Sequence[Page], language: str) -> Skeleton:
        shards = tuple(sorted(frozenset(chain.from_iterable(page.shards for page in pages))))
        key = (tuple(page.plate.digest for page in pages), shards, language)
        if (found := self._skeletons.get(key)) is not None:
            self._skeletons.move_to_end(key)
            return found
        made = self._built([page.plate for page in pages], shards, language)
        if len(pages) <= SKELETON_PAGES_MAX:
            self._skeletons[key] = made
            if len(self._skeletons) > SKELETONS_MAX:
                self._skeletons.popitem(last=False)
        return made

    def _built(self, plates: Sequence[Plate], shards: Sequence[tuple[str, int]], language: str) -> Skeleton:
        draft, number = Draft(), FIRST_FREE
        fonts = b""
        for digest, index in shards:
            kit = the_kit(self._kits, digest)
            fonts += b"/%b %d 0 R" % (resource(digest, index), number)
            number = add_shard(draft.add, number, kit, kit.shards[index], index)
        bases = dict[str, int]()
        for plate in plates:
            if plate.digest not in bases:
                bases[plate.digest] = number
                number = add_shared(draft, number, plate, fonts)
        starts = []
        for plate in plates:
            starts.append(number)
            number += len(plate.page)
        own = -(-(len(draft.packed) + sum(len(plate.page) for plate in plates) + 5) // PACKED_OBJECTS_MAX)
        contents = number + own
        add_pages(draft, plates, bases, starts, contents, language=language)
        links = sum(len(plate.links) for plate in plates)
        add_document(draft, plates, starts, language, contents + len(plates) + links + 1)
        if draft.pack(number) != contents:
            raise RuntimeError("more object streams than were counted")
        body = b"".join(draft.parts)
        rows = b"".join([ROW.pack(*draft.rows.get(at, (0, 0, 65535))) for at in range(contents)])
        return Skeleton(body, rows, contents, hashlib.sha256(body).digest())


def add_shared(draft: Draft, number: int, plate: Plate, fonts: bytes) -> int:
    numbers: dict[Hole, bytes] = {("shared", index): b"%d" % (number + index) for index in range(len(plate.shared))}
    numbers["fonts", 0] = fonts
    for index, piece in enumerate(plate.shared):
        draft.add(number + index, piece.filled(numbers), piece.stream)
    return number + len(plate.shared)


def add_pages(
    draft: Draft,
    plates: Sequence[Plate],
    bases: Mapping[str, int],
    starts: Sequence[int],
    contents: int,
    *,
    language: str,
) -> None:
    annotation, link = len(plates), contents + len(plates)
    forms = {digest: forms_of(plate, language) for digest, plate in {plate.digest: plate for plate in plates}.items()}
    for index, (plate, start) in enumerate(zip(plates, starts, strict=True)):
        base, links = bases[plate.digest], len(plate.annotated)
        numbers = [
            *range(start, start + len(plate.page)),
            *range(base, base + len(plate.shared)),
            *(PAGES, DOCUMENT, contents + index, index),
            *range(annotation, annotation + links),
            *range(link, link + len(plate.links)),
        ]
        annotation += links
        link += len(plate.links)
        for at, (template, chosen) in enumerate(forms[plate.digest], start):
            draft.add(at, template % chosen(numbers))


def forms_of(plate: Plate, language: str) -> list[Form]:
    names = hole_names(plate)
    forms = [form(piece, names) for piece in plate.page]
    if plate.language != language:  # of the document: the page's elements say their own, for readers that speak
        for at in plate.roots:
            template, chosen = forms[at]
            forms[at] = (template.replace(b"<<", b"<</Lang %b" % text(plate.language), 1), chosen)
    return forms


def hole_names(plate: Plate) -> dict[Hole, int]:
    """Where the number of each hole stands in the list that add_pages makes for a page."""
    names: list[Hole] = [("page", at) for at in range(len(plate.page))]
    names += [("shared", at) for at in range(len(plate.shared))]
    names += [("pages", 0), ("document", 0), ("content", 0), ("struct", 0), *annotation_holes(plate)]
    names += [("link", at) for at in range(len(plate.links))]
    return {hole: at for at, hole in enumerate(names)}


def form(piece: Piece, names: Mapping[Hole, int]) -> Form:
    """An object as a template, and what chooses its numbers: a document of a hundred pages has thousands of them."""
    template = b"%d".join(text.replace(b"%", b"%%") for text in piece.texts)
    places = [names[hole] for hole in piece.holes]
    if len(places) > 1:
        return template, itemgetter(*places)
    return template, lambda numbers: tuple(numbers[at] for at in places)


def annotation_holes(plate: Plate) -> list[Hole]:
    """In the order of `plate.annotated`."""
    return [next(hole for hole in plate.page[at].holes if hole[0] == "annotation") for at, _ in plate.annotated]


def add_document(draft: Draft, plates: Sequence[Plate], starts: Sequence[int], language: str, metadata: int) -> None:
    kids = b" ".join(b"%d 0 R" % start for start in starts)
    roots = b" ".join(
        b"%d 0 R" % (start + at) for plate, start in zip(plates, starts, strict=True) for at in plate.roots
    )
    nums = [
        b"%d [%b]" % (index, b" ".join(b"%d 0 R" % (start + at) for at in plate.marks))
        for index, (plate, start) in enumerate(zip(plates, starts, strict=True))
    ]
    elements = [start + element for plate, start in zip(plates, starts, strict=True) for _, element in plate.annotated]
    nums += [b"%d %d 0 R" % (len(plates) + index, element) for index, element in enumerate(elements)]
    draft.add(
        CATALOG,
        b"<</Type/Catalog/Pages %d 0 R/Lang %b/StructTreeRoot %d 0 R/MarkInfo<</Marked true>>"
        b"/ViewerPreferences<</DisplayDocTitle true>>/Metadata %d 0 R>>" % (PAGES, text(language), ROOT, metadata),
    )
    draft.add(PAGES, b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(plates), kids))
    draft.add(ROOT, b"<</Type/StructTreeRoot/ParentTree %d 0 R/K[%d 0 R]>>" % (TREE, DOCUMENT))
    draft.add(TREE, b"<</Nums[%b]>>" % b" ".join(nums))
    draft.add(DOCUMENT, b"<</Type/StructElem/S/Document/P %d 0 R/K[%b]>>" % (ROOT, roots))
