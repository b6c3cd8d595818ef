"""Arrays to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laurel.runs.blobs import decode, encode, payload


def test_bytes_by_hand() -> None:
    assert encode(np.array([1, 255])) == b"Br\x01\xff"
    assert encode(np.array([1, 256])) == b"Hr\x01\x00\x00\x01"
    assert encode(np.array([65536])) == b"Ir\x00\x00\x01\x00"
    assert encode(np.array([-1])) == b"qr" + b"\xff" * 8
    assert encode(np.array([True, False])) == b"?r\x01\x00"
    assert encode(np.array([1.0], np.float32)) == b"fr\x00\x00\x80\x3f"


@given(arrays(np.int64, st.integers(0, 20), elements=st.integers(-(2**63), 2**63 - 1)), st.booleans())
def test_integers_come_back(array: np.ndarray, compress: bool) -> None:
    found = decode(encode(array, compress=compress))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, array)


@given(st.sampled_from([np.float32, np.float64, np.bool_]), st.data(), st.booleans())
def test_other_types_come_back_bit_by_bit(dtype: type, data: st.DataObject, compress: bool) -> None:
    array = data.draw(arrays(dtype, st.integers(0, 20)))
    found = decode(encode(array, compress=compress))
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()


def test_big_endian_arrays_are_turned() -> None:
    assert encode(np.array([1.5], ">f8")) == encode(np.array([1.5], "<f8"))


def test_compression_shrinks_constant_credit_and_changes_no_payload() -> None:
    array = np.full(1000, 0.25)
    small = encode(array, compress=True)
    assert len(small) < 100
    assert payload(small) == payload(encode(array)) == array.tobytes()


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="complex128"):
        encode(np.array([1j]))
