"""A file's metadata: title, language, dates; in the old form (Info) and the new (XMP)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

PRODUCER = "Stubline"

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" \
xmlns:xmp="http://ns.adobe.com/xap/1.0/" \
xmlns:pdf="http://ns.adobe.com/pdf/1.3/" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/">
<pdfuaid:part>1</pdfuaid:part><pdf:Producer>{producer}</pdf:Producer>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{subject}</rdf:li></rdf:Alt></dc:description>
<dc:language><rdf:Bag><rdf:li>{language}</rdf:li></rdf:Bag></dc:language>
<xmp:CreateDate>{at}</xmp:CreateDate><xmp:ModifyDate>{at}</xmp:ModifyDate>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True, slots=True)
class DocumentMetadata:
    """The metadata of a file."""

    title: str
    subject: str
    language: str
    created: datetime


def pdf_string(content: str) -> bytes:
    if content.isascii():
        return (
            b"("
            + content.encode().replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
            + b")"
        )
    return b"<feff" + content.encode("utf-16-be", "replace").hex().encode() + b">"


def info_dictionary(metadata: DocumentMetadata) -> bytes:
    at = metadata.created.astimezone(UTC).strftime("D:%Y%m%d%H%M%SZ").encode()
    return b"<</Title %b/Subject %b/Producer(%b)/CreationDate(%b)/ModDate(%b)>>" % (
        pdf_string(metadata.title), pdf_string(metadata.subject), PRODUCER.encode(), at, at,
    )  # fmt: skip


def xmp(metadata: DocumentMetadata) -> bytes:
    return XMP.format(
        producer=PRODUCER,
        title=escape(metadata.title),
        subject=escape(metadata.subject),
        language=escape(metadata.language),
        at=metadata.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),  # as in /CreationDate
    ).encode()
