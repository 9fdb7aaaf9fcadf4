"""DuckDB for files that are named: in memory, with no other file, no network and no extension.

Values of a query are bound and its columns are looked up. Should that fail once, there is nothing
else to be had: what is allowed is said at the opening and can be changed by no query.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

# What is raised for a file that is not there any more: it is looked for as a directory, which is
# not allowed.
GONE = (duckdb.IOException, duckdb.PermissionException)
_CLOSED = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,  # a name in a query is no variable of whoever calls
}


def opened(
    files: Iterable[Path | str],
    *,
    threads: int,
    memory_mb: int,
    folder: Path | str | None = None,
    spill_mb: int = 0,
    **more: Any,
) -> duckdb.DuckDBPyConnection:
    """It opens a database in memory that sees these files, and what is in the folder.

    What does not fit into the memory it writes into the folder, as far as `spill_mb` goes. Beyond
    that, and without a folder, it raises duckdb.OutOfMemoryException (`is_of_spill`).
    """
    spill = "" if folder is None else str(Path(folder) / "spill")
    own: dict[str, Any] = {
        "threads": threads,
        "memory_limit": f"{memory_mb}MB",
        "temp_directory": spill,
    }
    db = duckdb.connect(config={**own, **more, **_CLOSED})
    if folder is not None:
        # Told at the opening it would be shown and not kept: then 90 % of the disk is the limit.
        db.execute(f"set max_temp_directory_size = '{spill_mb:d}MB'")
    # The order matters: what is allowed cannot be said once everything else is forbidden.
    db.execute("set allowed_paths = ?", [[str(path) for path in files]])
    if folder is not None:
        db.execute("set allowed_directories = ?", [[str(folder)]])
    db.execute("set enable_external_access = false")
    db.execute("set lock_configuration = true")
    return db


def is_of_spill(error: Exception) -> bool:
    """It tells whether more had to be written beside the memory than `spill_mb`."""
    # DuckDB's errors are words only; it names the setting.
    return isinstance(error, duckdb.OutOfMemoryException) and (
        "max_temp_directory_size" in str(error)
    )
