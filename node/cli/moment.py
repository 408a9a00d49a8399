"""Times and durations as people write them and as they are shown.

A duration is ``30d``, ``2h``, ``1h30m``, ``90s``, ``250ms`` or a number of milliseconds. A time is a date or an
ISO 8601 date and time (UTC unless it says otherwise), milliseconds since the epoch, or a duration from now:
``30d`` is in thirty days, ``-2h`` was two hours ago.
"""

import re
import time
from datetime import UTC, datetime
from typing import Final

UNITS_MS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PARTS: Final = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>ms|[wdhms])")
_DURATION: Final = re.compile(rf"(?:{_PARTS.pattern.replace('?P<count>', '').replace('?P<unit>', '')})+")

EARLIEST_MS: Final = 10**11
"""Of times in milliseconds: 1973. A smaller number is a time in seconds, taken for one in milliseconds."""


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def parse_duration(text: str) -> int:
    """Milliseconds. Raises ValueError."""
    text = text.strip().lower()
    if text.isdecimal():
        return int(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write 30d, 2h, 1h30m, 90s, 250ms or milliseconds")
    return round(sum(float(part["count"]) * UNITS_MS[part["unit"]] for part in _PARTS.finditer(text)))


def parse_time(text: str, now_ms: int | None = None) -> int:
    """Milliseconds since the epoch; `now_ms` is what durations count from. Raises ValueError."""
    text = text.strip()
    if text.isdecimal():
        if int(text) < EARLIEST_MS:
            raise ValueError(f"{text} is before 1973: times are milliseconds since the epoch, not seconds")
        return int(text)
    if _DURATION.fullmatch(text.lstrip("+-").lower()):
        sign = -1 if text.startswith("-") else 1
        return (wall_ms() if now_ms is None else now_ms) + sign * parse_duration(text.lstrip("+-"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write 2031-01-31, 2031-01-31T12:00Z, 30d (from now) or milliseconds since the epoch"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def shown_time(ms: int) -> str:
    """``2031-01-31 12:00:00Z``, with milliseconds where there are any."""
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
    fraction = f".{ms % 1000:03}" if ms % 1000 else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}Z"


def shown_day(ms: int) -> str:
    """The date: ``2031-01-31``."""
    return shown_time(ms).partition(" ")[0]


def shown_clock(ms: int) -> str:
    """The time of day to the millisecond: ``12:00:00.123``."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%H:%M:%S}.{ms % 1000:03}"


def shown_duration(ms: int) -> str:
    """The two largest units: ``1 h 30 min``, ``2.5 s``, ``40 ms``."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    units = (("d", UNITS_MS["d"]), ("h", UNITS_MS["h"]), ("min", UNITS_MS["m"]), ("s", UNITS_MS["s"]))
    shown: list[str] = []
    for name, size in units:
        if ms >= size or shown:
            shown.append(f"{ms // size} {name}" if ms // size else "")
            ms %= size
    return " ".join(part for part in shown[:2] if part)
