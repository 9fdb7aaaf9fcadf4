"""Categories as bins name them: short, without what a database refuses, told apart. Pure."""

import struct
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import islice

import pyarrow as pa

LONGEST_TEXT = 200  # kept as it is
LOOKED_AT = 200  # texts, to tell whether a column holds moments
MOST_HASHED = 16_384  # characters; files of rows may hold no more of a long text


def texts(words: pa.Array) -> Iterator[str]:
    """The texts of an array, whatever bytes a file holds for them."""
    for content in words.cast(pa.large_binary()).to_pylist():
        yield "" if content is None else content.decode("utf-8", "replace")


def named(text: str) -> str:
    """A text as bins name it: PostgreSQL's JSON takes no NUL, and 1 MB is no name."""
    if len(text) <= LONGEST_TEXT and "\0" not in text:
        return text
    start = text[: LONGEST_TEXT // 2].replace("\0", "�")
    return f"{start}… {hashed(text[:MOST_HASHED]):016x}"


def hashed(text: str) -> int:
    """A hash that is the same in every process and every year."""
    [found] = struct.unpack("<Q", blake2b(text.encode(), digest_size=8).digest())
    return int(found)


def are_moments(names: Iterable[str]) -> bool:
    """It tells whether different texts are dates or times, as ISO 8601 writes them.

    A single one too: whatever comes after it would be unseen. Few of them, as of cohorts, cannot
    be told from many: they have no drift.

    Of empty texts, which stand for nothing, none is looked at.
    """
    some = list(islice((name for name in names if name), LOOKED_AT))
    return bool(some) and all(map(_is_moment, some))


def _is_moment(text: str) -> bool:
    # Eight digits may be a date or any number: only with its dashes it is meant as one.
    if text[4:5] != "-" or text[7:8] != "-":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
