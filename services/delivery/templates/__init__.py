"""The mail's templates, which escape, so that a customer's name is never markup. They belong to the
package, so they run without a sandbox, which would take a tenth of a mail's time.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined, select_autoescape

from services.delivery.printing.design.colours import tint


@cache
def environment() -> Environment:
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in files(__package__).iterdir()
        if entry.name[-3:] != ".py" and entry.is_file()
    }
    templates = Environment(
        loader=DictLoader(texts),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    templates.filters.update(tint=tint)
    return templates


def render(name: str, **values: object) -> str:
    return environment().get_template(name).render(**values)
