"""Arrays as bytes: two letters that say how to read them, then little-endian data.

The first letter is the type (`B` uint8, `H` uint16, `I` uint32, `q` int64, `f` float32, `d` float64, `?` bool), the
second says whether the data are raw (`r`) or zlib-compressed (`z`). Integers take the narrowest type that holds them,
so that the tokens of a small vocabulary cost one byte each.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {
    letter: np.dtype(name)
    for letter, name in {"B": "u1", "H": "<u2", "I": "<u4", "q": "<i8", "f": "<f4", "d": "<f8", "?": "?"}.items()
}
_LETTERS = {dtype: letter for letter, dtype in _TYPES.items()}
_UNSIGNED = (("B", 1 << 8), ("H", 1 << 16), ("I", 1 << 32))
# The fastest level: credit is constant over long stretches, which any level squeezes, and it is written every step.
_COMPRESSION_LEVEL = 1


def encode(array: npt.NDArray[Any], *, compress: bool = False) -> bytes:
    """The bytes of a one-dimensional array, its width narrowed if it holds integers.

    Raises:
        TypeError: if the type is none of those above (integers of any width are welcome).
    """
    letter = _integer_letter(array) if array.dtype.kind in "iu" else _LETTERS.get(array.dtype.newbyteorder("<"))
    if letter is None:
        raise TypeError(f"Arrays of {array.dtype} are not stored.")
    data = array.astype(_TYPES[letter], copy=False).tobytes()
    if compress:
        return letter.encode() + b"z" + zlib.compress(data, _COMPRESSION_LEVEL)
    return letter.encode() + b"r" + data


def decode(blob: bytes) -> npt.NDArray[Any]:
    """The array that `encode` was given, with integers as int64."""
    array = np.frombuffer(payload(blob), _TYPES[chr(blob[0])])
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def payload(blob: bytes) -> bytes:
    """The uncompressed data, which do not depend on the version of zlib."""
    return zlib.decompress(blob[2:]) if blob[1:2] == b"z" else blob[2:]


def _integer_letter(array: npt.NDArray[Any]) -> str:
    if array.size == 0:
        return "B"
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0:
        return "q"
    return next((letter for letter, bound in _UNSIGNED if highest < bound), "q")
