"""A design's page for one campaign: Jinja in a sandbox, then an element tree in which fields hold
texts as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args
from xml.etree.ElementTree import Element, SubElement

from jinja2 import (
    BaseLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from typing_extensions import override

from services.delivery.printing.design.fitting import Fit, FittedText, FittingRule, Valign
from services.delivery.printing.design.library import PAGE, Design, DesignVariant, FieldName
from services.delivery.printing.errors import DesignUnusable

HTML_CHARS_MAX = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"
CLAMP = "max-lines:{};continue:discard;block-ellipsis:auto;"
Word = TypeVar("Word", bound=str)
SHRINK_DEFAULT = 50
TEMPLATES = (".html", ".svg", ".css")
PAGE_VARIABLES = (
    "; a page sees campaign.id, .name, .when, .venue and .tint, text.WORD of [text.LANGUAGE] "
    "in design.toml, language, size"
)


@dataclass(frozen=True, slots=True)
class CampaignFacts:
    """What a page shows of its campaign, the same on all tickets."""

    campaign_id: str
    name: str
    when: str
    venue: str
    tint: str

    def as_context(self) -> dict[str, str]:
        """Return the facts as the page's Jinja variables name them."""
        return {
            "id": self.campaign_id,
            "name": self.name,
            "when": self.when,
            "venue": self.venue,
            "tint": self.tint,
        }


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field as its element declares it."""

    name: FieldName
    rule: FittingRule
    at: str  # `page.html:12`, for messages
    element: Element


class DesignTemplates(BaseLoader):
    """Loads includes and macros from the design's own files."""

    def __init__(self, design: Design) -> None:
        self._design = design

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Any]:  # noqa: ARG002 - jinja's interface
        if template not in self._design.contents:
            raise TemplateNotFound(template)
        return self._design.text_of(template), template, lambda: True


class Sandbox(ImmutableSandboxedEnvironment):
    """Looks a name up in a table before its methods: a design's word may be called `items`."""

    @override
    def getattr(self, obj: Any, attribute: str) -> Any:
        return (
            obj[attribute]
            if isinstance(obj, dict) and attribute in obj
            else super().getattr(obj, attribute)
        )


def printable(value: Any) -> Any:
    """Return a value that `{{ }}` may print. Any other would print its memory address, which
    differs at each run.
    """
    if value is not None and not isinstance(value, (str, int, float, list, tuple, dict, Undefined)):
        raise TypeError(
            f"`{{{{ }}}}` prints texts and numbers, and this is a {type(value).__name__}: call "
            "it, or leave it out"
        )
    return value


def rendered_html(variant: DesignVariant, facts: CampaignFacts) -> str:
    """Return the page's HTML. Raises DesignUnusable with file and line for every Jinja error."""
    design = variant.design
    design.text_of(PAGE)
    try:
        html = (
            sandbox_of(design)
            .get_template(PAGE)
            .render(
                campaign=facts.as_context(),
                text=design.manifest.text.get(variant.language, {}),
                language=variant.language,
                size=variant.size,
            )
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a template raises is for its author
        raise DesignUnusable(f"{design.name}/{describe_template_error(error)}") from None
    if len(html) > HTML_CHARS_MAX:
        raise DesignUnusable(
            f"{design.name}/{PAGE}: makes {len(html):,} characters of HTML; {HTML_CHARS_MAX:,} at "
            "most"
        )
    return html


def sandbox_of(design: Design) -> Sandbox:
    environment = Sandbox(
        loader=DesignTemplates(design),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
    )
    environment.globals.clear()
    environment.globals["range"] = safe_range
    del environment.filters["random"]  # each machine would print another page
    return environment


def describe_template_error(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        return f"{error.name}:{error.lineno}: {error.message}"
    if isinstance(error, TemplateNotFound):
        return f"{PAGE}: includes `{error.name}`, which the folder does not hold"
    cause = str(error)
    if isinstance(error, LookupError | RecursionError):
        cause = f"{type(error).__name__}: {error}"
    cause = cause[:500] + (PAGE_VARIABLES if isinstance(error, UndefinedError) else "")
    return f"{line_raised(error)}: {cause}"


def line_raised(error: BaseException) -> str:
    """Return the author's file and line. Jinja rewrites tracebacks, so the last frame of a template
    has them.
    """
    trace, line = error.__traceback__, PAGE
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(TEMPLATES):
            line = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def fields_of(variant: DesignVariant, root: Element) -> dict[str, FieldSpec]:
    """Return every data-field of the page by its name; the second element of a field is `number.2`.
    Raises DesignUnusable for a field that the manifest lacks.
    """
    design, fields = variant.design, dict[str, FieldSpec]()
    known = design.manifest.fields
    for element in root.iter():
        if (name := element.get("data-field")) is None:
            continue
        earlier = sum(spec.name == name for spec in fields.values())
        at = source_line(design, f'data-field="{name}"', earlier)
        where = f"{design.name}/{at}: field `{name}`"
        if name not in known:
            names = get_args(FieldName)
            remedy = f"add [fields.{name}]" if name in names else f"fields are {', '.join(names)}"
            raise DesignUnusable(f"{where} is not in design.toml: {remedy}")
        if any(child.tag is not None for child in element):
            raise DesignUnusable(
                f"{where} holds other elements; it holds its text and nothing else"
            )
        key = f"{name}.{earlier + 1}" if earlier else name
        fields[key] = FieldSpec(name, fitting_rule(element, where), at, element)
    return fields


def fitting_rule(element: Element, where: str) -> FittingRule:
    fit: Fit = one_of(get_args(Fit), element.get("data-fit", "ellipsis"), f"{where}: data-fit")
    valign: Valign = one_of(
        get_args(Valign), element.get("data-valign", "top"), f"{where}: data-valign"
    )
    lines = integer_attribute(element, "data-lines", 0 if fit == "wrap" else 1, 50, where)
    shrink = (
        integer_attribute(element, "data-shrink", SHRINK_DEFAULT, 100, where)
        if fit == "shrink"
        else 100
    )
    return FittingRule(fit, lines, max(1, shrink) / 100, valign)


def one_of(allowed: Sequence[Word], value: str, where: str) -> Word:
    for word in allowed:
        if word == value:
            return word
    raise DesignUnusable(f"{where} is `{value[:40]}`; it is {', '.join(allowed)}")


def integer_attribute(element: Element, name: str, default: int, most: int, where: str) -> int:
    text = element.get(name, str(default)).removesuffix("%")
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= most:
        raise DesignUnusable(f"{where}: {name} is `{text[:40]}`; it is a number from 1 to {most}")
    return int(text)


def source_line(design: Design, text: str, times_before: int = 0) -> str:
    """Return where the page or a file that it includes has this text, as `page.html:12`. Quotes in
    the text match any quotes, or none.
    """
    wanted = re.compile(r"\s*=\s*".join(map(re.escape, text.split("=", 1))).replace('"', "[\"']?"))
    templates = sorted(
        (path for path in design.contents if path.endswith(TEMPLATES)),
        key=lambda path: (path != PAGE, path),
    )
    lines = [
        f"{path}:{at}"
        for path in templates
        for at, line in enumerate(design.contents[path].decode(errors="replace").splitlines(), 1)
        if wanted.search(line)
    ]
    return lines[min(times_before, len(lines) - 1)] if lines else f"{PAGE}:1"


def write_fitted(element: Element, fitted: FittedText) -> None:
    """Write lines into a field. They are written as text, so that nothing in them is markup. A
    stamp sets the same lines at the same positions.
    """
    for child in list(element):
        element.remove(child)
    element.text = None
    block = SubElement(
        element,
        "span",
        style=f"display:block;position:relative;top:{fitted.top:.6f}px;{size_of(fitted)}",
    )
    for index, line in enumerate(fitted.lines):
        if index:
            SubElement(block, "br").tail = line
        else:
            block.text = line


@dataclass(frozen=True, slots=True)
class UnstampableText:
    """A text that WeasyPrint breaks into lines, at a size at which it fits or truncated."""

    text: str
    size: float
    top: float
    lines: int
    is_cut: bool
    is_upper: bool = False  # the page shows it in capital letters


def write_unstampable(element: Element, unstampable: UnstampableText) -> None:
    """Write a text that WeasyPrint breaks. One line never breaks; several break where the script
    allows it. What does not fit ends with an ellipsis.
    """
    for child in list(element):
        element.remove(child)
    element.text = None
    style = f"display:block;position:relative;top:{unstampable.top:.6f}px;"
    style += f"font-size:{unstampable.size:.6f}px;"
    style += (
        "white-space:nowrap;"
        if unstampable.lines == 1
        else "white-space:normal;overflow-wrap:anywhere;"
    )
    if unstampable.is_cut:
        style += "overflow:hidden;" + (
            "text-overflow:ellipsis;" if unstampable.lines == 1 else CLAMP.format(unstampable.lines)
        )
    SubElement(element, "span", style=style).text = unstampable.text


def size_of(fitted: FittedText) -> str:
    return "" if fitted.scale == 1 else f"font-size:{fitted.size:.6f}px"


def draw_code(element: Element, svg_path: str, side: int, title: str) -> None:
    """Draw the code into its element, as an SVG that fills it."""
    for child in list(element):
        element.remove(child)
    element.text = None
    style = "display:block;width:100%;height:100%"
    svg = SubElement(element, f"{SVG}svg", viewBox=f"0 0 {side} {side}", style=style, alt=title)
    SubElement(svg, f"{SVG}title").text = title
    SubElement(svg, f"{SVG}path", d=svg_path)
