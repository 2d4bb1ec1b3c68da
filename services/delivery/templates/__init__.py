"""The mail's templates, sandboxed and escaping, so that a customer's name is never markup."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.delivery.printing.design.colours import tint


@cache
def environment() -> ImmutableSandboxedEnvironment:
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in files(__package__).iterdir()
        if entry.name[-3:] != ".py" and entry.is_file()
    }
    sandbox = ImmutableSandboxedEnvironment(
        loader=DictLoader(texts),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    sandbox.filters.update(tint=tint)
    return sandbox


def render(name: str, **values: object) -> str:
    return environment().get_template(name).render(**values)
