"""Rows out of files, each with its number and the place that errors name: JSON lines (also gzipped) and Parquet."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from laurel.errors import MissingExtraError, TaskError


def json_lines(path: Path) -> Iterator[tuple[int, str, object]]:
    """(number, place, row) of every line that is not blank, from 1.

    Raises:
        TaskError: for a file that cannot be read, or at the first line that is no JSON.
    """
    for number, where, line in raw_lines(path):
        yield number, where, parsed(line, where)


def raw_lines(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(number, place, line) of every line that is not blank, from 1; a name that ends with .gz is unpacked.

    Raises:
        TaskError: for a file that cannot be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, f"{path}, line {number}", line
    except OSError as error:
        raise TaskError(f"Cannot read the file {path}: {error.strerror or error}.", hint="check the path.") from error
    except (EOFError, zlib.error) as error:
        raise TaskError(f"{path} is no whole gzip file: {error}.", hint="download or write it again.") from error


def parsed(line: bytes, where: str) -> object:
    """What one line of JSON holds.

    Raises:
        TaskError: it is not UTF-8, or not one whole JSON value.
    """
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise TaskError(f"{where} is not UTF-8: {error.reason}.", hint="save the file as UTF-8.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.startswith("["):
            hint = "this looks like one JSON array: laurel.tasks.from_iterable(json.load(file)) reads that."
        else:
            hint = "each line must be one whole JSON object; mend or remove the line."
        raise TaskError(f"{where} is broken JSON: {error}.", hint=hint) from error


def parquet_rows(path: Path) -> Iterator[tuple[int, str, object]]:
    """(number, place, row) of every row, from 1.

    Raises:
        MissingExtraError: without pyarrow.
        TaskError: for a file that cannot be read.
    """
    try:
        import pyarrow
        from pyarrow import parquet as arrow_parquet
    except ImportError as error:
        raise MissingExtraError("Reading Parquet", package="pyarrow", extra="data") from error
    number = 0
    try:
        with arrow_parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, f"{path}, row {number}", row
    except OSError as error:
        raise TaskError(f"Cannot read the file {path}: {error}.", hint="check the path.") from error
    except pyarrow.ArrowInvalid as error:
        raise TaskError(f"{path} is no whole Parquet file: {error}.", hint="download or write it again.") from error
