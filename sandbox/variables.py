"""The variables that cells have made, as the box lists them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable. All of it is the box's word; both texts have at most 64 characters, of any kind.

    Attributes:
        name: Its name.
        type_name: Its type's.
        size: Characters, items or rows, where the box knows.
    """

    name: str
    type_name: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """What a box says of its variables.

    Attributes:
        count: How many there are.
        listed: The last of them, at most 100.
    """

    count: int = 0
    listed: tuple[Variable, ...] = ()

    def without(self, names: Collection[str]) -> Variables:
        """The list without these."""
        left = tuple(variable for variable in self.listed if variable.name not in names)
        return Variables(count=max(len(left), self.count - len(names)), listed=left)
