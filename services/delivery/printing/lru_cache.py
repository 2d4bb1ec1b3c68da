"""What is remembered because it will be asked for again, and no more of it than there is room
for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class LruCache(OrderedDict[K, V]):
    """The latest so many."""

    most: int = 1

    def get_or(self, key: K, make: Callable[[], V]) -> V:
        if key not in self:
            self[key] = make()
            if len(self) > self.most:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]
