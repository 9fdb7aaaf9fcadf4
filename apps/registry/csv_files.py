"""Turns a CSV file into Parquet, in memory that does not grow with the file."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from apps.registry import tables
from apps.registry.tables import DatasetRefused

BLOCK_BYTES = 4 << 20  # the first one tells the columns' types; no line may be longer
SNIFFED_BYTES = 4096
PARQUET_MAGIC = b"PAR1"
# What a column becomes when a later line does not fit what the first block told.
WIDER = {pa.null(): pa.float64(), pa.int64(): pa.float64()}
NOTHING_YET = pa.null()
MOST_ATTEMPTS = 20


def is_csv(path: Path, name: str) -> bool:
    """It tells by the file's name, and where that says nothing by its first bytes."""
    ending = Path(name).suffix.lower()
    if ending in (".csv", ".parquet"):
        return ending == ".csv"
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    return bool(head) and not head.startswith(PARQUET_MAGIC) and _is_text(head)


def to_parquet(source: Path, target: Path) -> None:
    """It writes the rows as Parquet; a number that is whole at first may have decimals later.

    Raises: DatasetRefused with the line that cannot be read.
    """
    kinds: dict[str, pa.DataType] = {}
    empty_at_first: set[str] = set()
    for _ in range(MOST_ATTEMPTS):
        attempt = _Attempt(source, kinds)
        try:
            attempt.write(target)
        except _DoesNotFit as odd:
            if odd.kind == NOTHING_YET:
                empty_at_first.add(odd.column)
            wider = WIDER.get(odd.kind)
            if wider is None and odd.column in empty_at_first and odd.kind != pa.string():
                wider = pa.string()  # nothing told that it holds numbers
            if wider is None:
                raise DatasetRefused(str(odd)) from odd
            kinds[odd.column] = wider
        else:
            return
    raise DatasetRefused("Too many columns begin with whole numbers or nothing; send Parquet")


class _DoesNotFit(Exception):
    """A value is of another type than its column was so far."""

    def __init__(self, column: str, kind: pa.DataType, words: str) -> None:
        super().__init__(words)
        self.column = column
        self.kind = kind


class _Attempt:
    """One reading of the file with these types for some of its columns."""

    def __init__(self, source: Path, kinds: dict[str, pa.DataType]) -> None:
        self.source = source
        self.kinds = kinds
        self.bad_row: pc.InvalidRow | None = None
        self.schema: pa.Schema | None = None

    def write(self, target: Path) -> None:
        rows = 0
        try:
            with self._open() as reader:
                self.schema = reader.schema
                with pq.ParquetWriter(target, self.schema, compression="zstd") as out:
                    for batch in _batches(reader):
                        rows += batch.num_rows
                        if rows > tables.MOST_ROWS:
                            raise DatasetRefused(
                                f"The file holds more than {tables.MOST_ROWS:,} rows; "
                                "register a sample of it",
                                "dataset_too_many_rows",
                            )
                        out.write_batch(batch)
        except pa.ArrowInvalid as broken:
            raise self._explained(str(broken)) from broken

    def _open(self) -> pc.CSVStreamingReader:
        return pc.open_csv(
            self.source,
            # With threads it does not know which line it reads.
            read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pc.ParseOptions(
                newlines_in_values=True, invalid_row_handler=self._note_bad_row
            ),
            convert_options=pc.ConvertOptions(column_types=self.kinds, strings_can_be_null=True),
        )

    def _note_bad_row(self, row: pc.InvalidRow) -> str:
        self.bad_row = self.bad_row or row
        return "error"

    def _explained(self, said: str) -> Exception:
        bad = self.bad_row
        if bad is not None:
            where = f"Line {bad.number}" if bad.number is not None else "A line"
            return DatasetRefused(
                f"{where} of the CSV file has {bad.actual_columns} values, "
                f"the header has {bad.expected_columns}"
            )
        return self._conversion(said) or DatasetRefused(f"The CSV file is not readable: {said}")

    def _conversion(self, said: str) -> Exception | None:
        """As pyarrow says it: "In CSV column #1: Row #4: CSV conversion error to int64: …"."""
        place, _, rest = said.partition("CSV column #")[2].partition(": ")
        if not place.isdecimal() or "conversion error" not in rest:
            return None
        row = rest.partition("Row #")[2].partition(":")[0]
        value = rest.partition("conversion error")[2].partition(": ")[2]
        names = self._header()
        name = names[int(place)] if int(place) < len(names) else place
        kind = self.schema.field(name).type if self.schema is not None else pa.string()
        where = f"Line {row}" if row else "A line"
        words = f"{where} of the CSV file: {name} is {kind} so far, and here {value}"
        return _DoesNotFit(name, kind, words)

    def _header(self) -> list[str]:
        return list(self.schema.names) if self.schema is not None else []


def _batches(reader: pc.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            yield reader.read_next_batch()
        except StopIteration:
            return


def _is_text(head: bytes) -> bool:
    if b"\0" in head or b"\n" not in head:
        return False
    try:
        head[: head.rfind(b"\n")].decode()
    except UnicodeDecodeError:
        return False
    return True
