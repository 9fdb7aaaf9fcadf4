"""It turns what models return into JSON."""

from __future__ import annotations

from typing import Any

import orjson

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def dumps(value: Any) -> bytes:
    """It writes JSON; NaN and infinities become null, because JSON has no word for them."""
    return orjson.dumps(value, default=_fallback, option=_OPTIONS)


def plain(result: Any) -> Any:
    """It turns arrays, tables and series into lists; a table becomes one object a row."""
    if hasattr(result, "to_dict") and hasattr(result, "columns"):
        return result.to_dict(orient="records")
    if hasattr(result, "toarray"):
        return result.toarray().tolist()
    if hasattr(result, "tolist"):
        return result.tolist()
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [plain(value) for value in result]
    return result


def by_row(found: dict[str, Any]) -> Any:
    """It gives lists by name row by row: one alone as it is, several of one length as objects."""
    if len(found) == 1:
        return next(iter(found.values()))
    lengths = {len(values) if isinstance(values, list) else -1 for values in found.values()}
    if len(lengths) != 1 or -1 in lengths:
        return found
    rows = zip(*found.values(), strict=True)
    return [dict(zip(found, row, strict=True)) for row in rows]


def _fallback(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"the model returned {type(value).__name__}, which JSON cannot hold")
