"""One hash for everything of a run that has to repeat."""

from __future__ import annotations

import hashlib
import sqlite3
import struct

from laurel.runs.blobs import payload
from laurel.runs.schema import BLOBS, REPRODUCIBLE


def digest(connection: sqlite3.Connection, step: int | None = None) -> str:
    """SHA-256 over the reproducible tables in the order of their keys, of one step or of all.

    Every value enters with its type and length, so that no two contents share a stream of bytes; compressed arrays
    enter uncompressed, so that the version of zlib does not.
    """
    total = hashlib.sha256()
    for table, columns in REPRODUCIBLE.items():
        names = columns.split(", ")
        order = [name for name in ("step", "collection", "name", "tree", "place") if name in names]
        where, values = ("", ()) if step is None else ("WHERE step = ?", (step,))
        query = f"SELECT {columns} FROM {table} {where} ORDER BY {', '.join(order)}"
        total.update(_canonical(table))
        for row in connection.execute(query, values):
            for name, value in zip(names, row, strict=True):
                if name in BLOBS and value is not None:
                    total.update(value[:1])
                    value = payload(value)
                total.update(_canonical(value))
    return total.hexdigest()


def _canonical(value: int | float | str | bytes | None) -> bytes:
    match value:
        case None:
            return b"n"
        case int():
            return b"i" + struct.pack("<q", value)
        case float():
            return b"f" + struct.pack("<d", value)
        case str():
            data = value.encode()
            return b"s" + struct.pack("<q", len(data)) + data
        case bytes():
            return b"b" + struct.pack("<q", len(value)) + value
