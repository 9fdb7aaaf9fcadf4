"""Categories as bins name them: short, without what a database refuses, told apart. Pure."""

import struct
from collections.abc import Iterator
from hashlib import blake2b

import pyarrow as pa

LONGEST_TEXT = 200  # kept as it is
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
