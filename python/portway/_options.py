"""What transfers can be told, in Python's words and in the engine's."""

from __future__ import annotations

import datetime
import os
import time
from decimal import Decimal
from typing import Any

Limit = int | str
"""Bytes per second, or a rate with its unit: `200Mb/s` (megabits), `25MB/s` (megabytes)."""
Cost = int | str | Decimal
"""An amount in the home's currency: `25`, `"0.09"`."""
Deadline = datetime.datetime | datetime.timedelta | float
"""A time, how long from now, or seconds since 1970."""


def options(
    *,
    checksum: bool = False,
    retry_s: int | None = None,
    transport: str = "auto",
    compress: str | None = None,
    limit: Limit | None = None,
    max_cost: Cost | None = None,
    deadline: Deadline | None = None,
    link: str | None = None,
    priority: str = "interactive",
    whole: bool = False,
    parts: int | None = None,
    attempt: str = "",
    basis: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    keep_every: int | None = None,
) -> dict[str, Any]:
    """The same as the native part reads it."""
    words = locals()
    words["limit"] = None if limit is None else _rate(limit)
    words["max_cost"] = None if max_cost is None else _amount(max_cost)
    words["deadline"] = None if deadline is None else _unix_s(deadline)
    return words


def _rate(limit: Limit) -> str:
    return limit if isinstance(limit, str) else f"{limit}B/s"


def _amount(cost: Cost) -> str:
    return format(cost, "f") if isinstance(cost, Decimal) else str(cost)


def _unix_s(deadline: Deadline) -> int:
    if isinstance(deadline, datetime.timedelta):
        return int(time.time() + deadline.total_seconds())
    if isinstance(deadline, datetime.datetime):
        return int(deadline.timestamp())
    return int(deadline)
