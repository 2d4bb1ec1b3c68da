"""A cache of bounded size that drops what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class LruCache(OrderedDict[K, V]):
    """The `entries_max` entries that were used last."""

    entries_max: int = 1

    def get_or(self, key: K, make: Callable[[], V]) -> V:
        if key not in self:
            self[key] = make()
            if len(self) > self.entries_max:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]
