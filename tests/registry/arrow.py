"""How much memory Arrow takes from Python's pool while a block runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def measured() -> Iterator[pa.MemoryPool]:
    """It gives a pool that knows the most that was held. `pq.read_table` takes from another."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(usual)
