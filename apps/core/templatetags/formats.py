"""Numbers and times in words: pure functions, one way of writing each quantity.

What was not measured (``None``, not a number) is a dash, never a zero: a page that shows 0 errors
for an endpoint nobody asked would be read as "all is well".
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

NOT_MEASURED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SERIES_COLOURS = 8


def _number(value: object) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _digits(number: float, significant: int = 3) -> str:
    """It writes a number with at most so many significant digits and no trailing zeros."""
    if number == 0:
        return "0"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(number))))
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(number: float, units: tuple[str, ...]) -> tuple[str, str]:
    """It divides by 1000 until the *written* number is below 1000, so that 999,999 is 1 M."""
    for unit in units[:-1]:
        text = _digits(number)
        if abs(float(text)) < 1000:
            return text, unit
        number /= 1000
    return _digits(number), units[-1]


def format_num(value: object) -> str:
    """It writes a count or a plain number: 987, 12.3 k, 4.56 M."""
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    text, unit = _scaled(number, ("", "k", "M", "G", "T"))
    return f"{text} {unit}" if unit else text


def format_percent(value: object) -> str:
    """It writes a fraction as per cent: 0.004 is 0.4 %.

    Neither "0 %" nor "100 %" is written for what is only near it: 3 errors in 100,000 are not none.
    """
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    share = number * 100
    size = abs(share)
    if 0 < size < 0.001:
        return "under 0.001 %" if share > 0 else "over -0.001 %"
    if 0 < size < 0.1:
        text = _digits(share, 1 if size < 0.01 else 2)
    elif 99.9 < size < 100:
        text = f"{math.copysign(math.floor(size * 1000) / 1000, share):.3f}".rstrip("0")
    else:
        text = f"{share:.1f}".removesuffix(".0")
    return f"{text} %"


def format_points(value: object) -> str:
    """It writes a difference of two fractions, signed, in percentage points: +0.6 pp."""
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    text = _digits(abs(number) * 100, 2 if abs(number) < 0.1 else 3)
    sign = "" if text == "0" else "+" if number > 0 else MINUS
    return f"{sign}{text} pp"


def format_rate(value: object) -> str:
    """It writes events per second: 12.3 k/s; what is rarer than 0.1/s by the minute: 1.2/min."""
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    if 0 < abs(number) < 0.1:
        return f"{_digits(number * 60, 2)}/min"
    return f"{format_num(number)}/s"


def format_bytes(value: object) -> str:
    """It writes a size in decimal units: 512 B, 1.5 kB, 2.25 GB."""
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    text, unit = _scaled(number, ("B", "kB", "MB", "GB", "TB", "PB"))
    return f"{text} {unit}"


def format_ms(value: object) -> str:
    """It writes a latency given in milliseconds: 0.42 ms, 4.1 ms, 41 ms, 1.24 s."""
    number = _number(value)
    if number is None:
        return NOT_MEASURED
    if abs(number) >= 999.5:
        if abs(number) >= 60_000:
            return format_duration(number / 1000)
        return f"{_digits(number / 1000)} s"
    return f"{_digits(number, 2) if abs(number) < 99.5 else f'{number:.0f}'} ms"


def format_us(value: object) -> str:
    """It writes a latency given in microseconds, as `format_ms` does."""
    number = _number(value)
    return NOT_MEASURED if number is None else format_ms(number / 1000)


def format_duration(value: object) -> str:
    """It writes seconds or a timedelta in its two largest units: 41 ms, 1 min 15 s, 2 d 3 h."""
    number = _number(value.total_seconds() if isinstance(value, timedelta) else value)
    if number is None:
        return NOT_MEASURED
    sign, number = (MINUS if number < 0 else ""), abs(number)
    if number == 0:
        return "0 s"
    if number < 0.9995:
        return f"{sign}{format_ms(number * 1000)}"
    if number < 59.95:
        return f"{sign}{_digits(number, 2 if number < 9.95 else 3)} s"
    whole = round(number)
    for big, small, big_word, small_word in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if whole >= big:
            rest = whole % big // small
            tail = f" {rest} {small_word}" if rest else ""
            return f"{sign}{whole // big} {big_word}{tail}"
    return f"{sign}{whole} s"


def format_relative(at: datetime, now: datetime) -> str:
    """It says how far a moment lies from now, in one unit: just now, 3 min ago, in 2 h."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 10:
        return "just now"
    steps: tuple[tuple[float, Callable[[float], str]], ...] = (
        (60, lambda s: f"{int(s)} s"),
        (3600, lambda s: f"{int(s // 60)} min"),
        (86400, lambda s: f"{int(s // 3600)} h"),
        (86400 * 60, lambda s: f"{int(s // 86400)} d"),
        (86400 * 730, lambda s: f"{int(s // (86400 * 30))} months"),
    )
    for limit, words in steps:
        if size < limit:
            text = words(size)
            break
    else:
        text = f"{int(size // (86400 * 365))} years"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def format_instant(at: datetime) -> str:
    """It writes the exact instant in UTC, for those who read without scripts."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_digest(value: str, length: int = 12) -> str:
    """It shortens a digest to what people compare, without its algorithm's name."""
    return value.rpartition(":")[2][:length]


def revision_index(number: object) -> int:
    """It gives the colour (0-7) of a version's revisions, from the version's number.

    Neighbours in number stand side by side in a rollout and so never share a colour.
    """
    value = _number(number)
    return 0 if value is None else (int(value) - 1) % SERIES_COLOURS
