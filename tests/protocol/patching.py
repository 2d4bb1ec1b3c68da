"""Patches that take a rule of the protocol out, so that a law can be seen to fail.

A rule is named by the function or property that implements it, never by a string: a rule that was
renamed or removed is found by the type checker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Rule = Callable[..., Any] | property


def rule_name(rule: Rule) -> str:
    """Return the name under which its owner holds a rule."""
    function: Any = rule.fget if isinstance(rule, property) else rule
    return str(function.__name__)


def replace_rule(patch: pytest.MonkeyPatch, owner: object, rule: Rule, by: object) -> None:
    """Replace a class's method or property, or a module's function, until the patch ends."""
    name = rule_name(rule)
    assert getattr(owner, name) is rule, f"{name} is not a rule of {owner}"
    patch.setattr(owner, name, by)
