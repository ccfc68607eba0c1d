"""Values as databases take them: PostgreSQL refuses a row with a text that is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LARGEST = 2**63 - 1  # of a row's number
_MOST = 1000  # numbers in one statement


def cut(column: sa.Column[Any], text: str) -> str:
    """Return as much of a text as fits, without what databases do not take: NUL, half characters."""
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    length = column.type.length if isinstance(column.type, sa.String) else None
    return text[:length]


def shortened(table: sa.Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's values with all texts cut to their columns."""
    return {
        name: cut(table.c[name], value) if isinstance(value, str) else value for name, value in values.items()
    }


def numbers(given: Collection[int]) -> list[int]:
    """Return what can be numbers of rows, of what a browser may have sent; not more than some."""
    return [number for number in given if 0 < number <= LARGEST][:_MOST]
