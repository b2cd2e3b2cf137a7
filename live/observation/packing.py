"""An observation as bytes and back: what the journal keeps of every decision, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

_DTYPE = "<f4"
_LENGTH = 4


def pack(observation: Mapping[str, np.ndarray]) -> bytes:
    """One observation (float32 arrays) as bytes; equal observations give equal bytes.

    Raises:
      ValueError: a part is not float32, which would lose bits.
    """
    shapes = {}
    for key, part in observation.items():
        if part.dtype != np.float32:
            raise ValueError(f"observation: {key} must be float32; got {part.dtype}.")
        shapes[key] = list(part.shape)
    header = json.dumps(shapes, separators=(",", ":")).encode()
    body = b"".join(np.ascontiguousarray(p, _DTYPE).tobytes() for p in observation.values())
    return len(header).to_bytes(_LENGTH, "little") + header + body


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The observation of `pack`.

    Raises:
      ValueError: the bytes are not a packed observation.
    """
    size = int.from_bytes(data[:_LENGTH], "little")
    try:
        shapes = json.loads(data[_LENGTH : _LENGTH + size])
        values = np.frombuffer(data[_LENGTH + size :], _DTYPE).astype(np.float32)
        counts = {key: int(np.prod(shape, dtype=np.int64)) for key, shape in shapes.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"observation: {len(data)} bytes are not a packed one.") from error
    if sum(counts.values()) != values.size:
        raise ValueError(
            f"observation: holds {values.size} numbers, its header says {sum(counts.values())}."
        )
    found, begin = {}, 0
    for key, shape in shapes.items():
        found[key] = values[begin : begin + counts[key]].reshape(shape)
        begin += counts[key]
    return found
