"""Expressions in SQL, with a few of the most common ones by name."""

from __future__ import annotations


class Expression(str):
    """An expression in SQL: a string, which can be given a name."""

    __slots__ = ()

    def alias(self, name: str) -> Expression:
        """The same, called `name`."""
        quoted = name.replace('"', '""')
        return Expression(f'{self} AS "{quoted}"')


def count(of: str = "*") -> Expression:
    """How many rows; of an expression, how many where it is not null."""
    return Expression(f"count({of})")


def sum(of: str) -> Expression:  # noqa: A001 - SQL's name.
    """The sum of an expression's values that are not null; null if there are none."""
    return Expression(f"sum({of})")


def avg(of: str) -> Expression:
    """The mean of an expression's values that are not null; null if there are none."""
    return Expression(f"avg({of})")


def min(of: str) -> Expression:  # noqa: A001 - SQL's name.
    """The least of an expression's values that are not null; null if there are none."""
    return Expression(f"min({of})")


def max(of: str) -> Expression:  # noqa: A001 - SQL's name.
    """The greatest of an expression's values that are not null; null if there are none."""
    return Expression(f"max({of})")
