"""Hands tables to the process that asked for them, through memory that both see.

A pipe copies them five times, which takes a fourth as long as the parsing. The memory has no name:
it is gone with the processes that hold it, whatever ends them.
"""

import mmap
import os
import sys
from collections.abc import Iterable

import pyarrow as pa


class Memory:
    """Where another process may put tables, once. It belongs to the process that made it."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.memfd_create("tables") if sys.platform == "linux" else -1
        except OSError:  # too many files are open
            self._descriptor = -1

    @property
    def path(self) -> str | None:
        """Where other processes of the same user find it; None: there is no such memory here."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}" if self._descriptor >= 0 else None

    def tables(self) -> list[pa.Table]:
        """It gives what was put there, without a copy: the memory stays as long as they do."""
        how = mmap.MAP_SHARED | mmap.MAP_POPULATE
        reader = pa.BufferReader(
            pa.py_buffer(mmap.mmap(self._descriptor, 0, flags=how, prot=mmap.PROT_READ))
        )
        found = []
        while reader.tell() < reader.size():
            found.append(pa.ipc.open_stream(reader).read_all())
        return found

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def put(tables: Iterable[pa.Table], path: str) -> None:
    """It writes tables into another process's Memory. Raises: OSError."""
    with pa.OSFile(path, "wb") as file:
        for table in tables:
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
