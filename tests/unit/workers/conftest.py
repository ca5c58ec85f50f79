"""Shared by the worker tests: safetensors files from nothing."""

import json
import struct

import numpy as np
import pytest

from assay.workers import _tensors

DTYPES = {"BF16": np.uint16, "F8_E4M3": np.uint8, **_tensors.NUMPY_DTYPES}


@pytest.fixture
def write_safetensors():
    """A function (path, {name: (dtype, array of raw values)}) that writes the format from nothing."""
    return _write


def _write(path, tensors):
    """Write {name: (dtype, array of raw values)}; the format is eight bytes of length, JSON, data."""
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(np.shape(array)),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
