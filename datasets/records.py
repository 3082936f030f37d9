"""One sample as a row of bytes, and back: bit by bit the same, in as few bytes as that allows.

    height, width            uint32 each, little-endian like everything else
    kind, length             uint8 and uint32, for each field of a sample in its order
    the fields               `length` bytes each
    the name                 UTF-8, to the end

A view is stored as the integers that it came from, if dividing them by 255 or 65535 gives back its
very bits; a grey one as one channel. A disparity map is stored as uint16 if dividing by one of
`FIXED` gives back its very bits, else as float32. A mask is stored as bits, or not at all where it
is the same everywhere. Any of them may be deflated (zlib) after two changes that make neighbours
alike: the bytes of numbers are sorted into planes, and each row is replaced by its difference from
the one above.

Letters  H W image size in pixels; P planes of bytes
Tests    tests/datasets/test_records.py
"""

import struct
import zlib
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from .sample import StereoSample

Compress = Literal["all", "truth", "none"]

FIELDS = StereoSample._fields[:-1]
SIZE = struct.Struct("<II")
FIELD = struct.Struct("<BI")
HEADER = SIZE.size + FIELD.size * len(FIELDS)

NOTHING, EVERYWHERE, BITS, FLOAT32, UINT8, UINT16 = range(6)
FIXED = {6: 256, 7: 100, 8: 3}
"""kind -> divisor: 256 as KITTI stores disparity (and every power of two below it, so CREStereo's
32 as well), 100 as InStereo2K, 3 as Middlebury 2005 and 2006 at a third of their size"""
GREY, DEFLATED = 32, 64
"""added to a kind: one channel for three, and deflated"""
LEVEL = 1
"""of zlib's 1 to 9: higher ones take several times as long for a few per cent"""


def encode(sample: StereoSample, compress: Compress) -> bytes:
    """Store a sample. Raises ValueError where a field can't be given back bit by bit."""
    height, width = sample.disparity.shape
    header, bodies = [SIZE.pack(height, width)], []
    for name, tensor in zip(FIELDS, sample[:-1], strict=True):
        if tensor.dtype not in (torch.float32, torch.bool):
            raise ValueError(f"{sample.name}: its {name} is {tensor.dtype}, which isn't stored")
        kind, stored = _stored(tensor)
        deflate = compress == "all" or (compress == "truth" and tensor.ndim == 2)
        body = stored.tobytes()
        if deflate and body:
            kind, body = kind | DEFLATED, zlib.compress(_differences(stored).tobytes(), LEVEL)
        if not _identical(_field(kind, body, name, height, width), tensor):
            raise ValueError(f"{sample.name}: its {name} wouldn't come back as it is")
        header.append(FIELD.pack(kind, len(body)))
        bodies.append(body)
    return b"".join([*header, *bodies, str(sample.name).encode()])


def decode(record: bytes) -> StereoSample:
    """Give back the sample. Raises ValueError for bytes that `encode` hasn't made."""
    try:
        height, width = SIZE.unpack_from(record)
        start, fields = HEADER, []
        for index, name in enumerate(FIELDS):
            kind, length = FIELD.unpack_from(record, SIZE.size + FIELD.size * index)
            body = memoryview(record)[start : start + length]
            fields.append(_field(kind, body, name, height, width))
            start += length
        return StereoSample(*fields, name=record[start:].decode())
    except (struct.error, zlib.error, KeyError, ValueError) as error:
        raise ValueError(f"not a stored sample ({error})") from error


def identical(one: StereoSample, other: StereoSample) -> bool:
    """Whether two samples are the same bit by bit, in type, shape and name."""
    pairs = zip(one[:-1], other[:-1], strict=True)
    return one.name == other.name and all(_identical(a, b) for a, b in pairs)


def _identical(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == torch.float32:  # equal bits: 0 isn't -0, and nan is itself
        one, other = one.contiguous().view(torch.int32), other.contiguous().view(torch.int32)
    return torch.equal(one, other)


def _stored(tensor: Tensor) -> tuple[int, NDArray]:
    """The kind, and an array [..., H, anything] of what is to be written."""
    values = tensor.contiguous().numpy()
    nothing = np.zeros((1, 0), np.uint8)
    if values.dtype == bool:
        if not values.any():
            return NOTHING, nothing
        return (EVERYWHERE, nothing) if values.all() else (BITS, np.packbits(values, axis=-1))
    if not values.view(np.uint32).any():
        return NOTHING, nothing
    grey = 0
    if values.ndim == 3 and _same_channels(values):
        grey, values = GREY, values[:1]
    choices = [(UINT8, np.uint8, 255), (UINT16, np.uint16, 65535)]
    if values.ndim == 2:
        choices = [(kind, np.uint16, divisor) for kind, divisor in FIXED.items()]
    for kind, dtype, divisor in choices:
        # Most maps are told apart by their first row, in no time.
        for part in (values[..., :1, :], values):
            stored = _integers(part, dtype, divisor)
            if stored is None:
                break
        else:
            return kind | grey, stored
    return FLOAT32 | grey, values


def _same_channels(values: NDArray) -> bool:
    bits = values.view(np.uint32)
    return bool((bits[0] == bits[1]).all() and (bits[0] == bits[2]).all())


def _integers(values: NDArray, dtype: type, divisor: int) -> NDArray | None:
    """What divided by `divisor` gives back `values` bit by bit, or None."""
    scaled = values * np.float32(divisor)
    # not (inside) rather than outside: nan is neither
    if not (scaled.min() >= 0 and scaled.max() <= np.iinfo(dtype).max + 0.4):
        return None
    stored = np.rint(scaled).astype(dtype)
    restored = stored.astype(np.float32) / np.float32(divisor)
    return stored if np.array_equal(restored.view(np.uint32), values.view(np.uint32)) else None


def _field(kind: int, body: bytes | memoryview, name: str, height: int, width: int) -> Tensor:
    """One field of a sample from its bytes."""
    view, mask = name in ("left", "right"), name.endswith(("valid", "occluded"))
    channels = (3,) if view else ()
    plain = kind & ~(GREY | DEFLATED)
    if plain in (NOTHING, EVERYWHERE):
        dtype = torch.bool if mask else torch.float32
        return torch.full((*channels, height, width), plain == EVERYWHERE, dtype=dtype)
    stored_channels = 1 if kind & GREY else 3
    columns = (width + 7) // 8 if plain == BITS else width
    shape = (*((stored_channels,) if view else ()), height, columns)
    dtype = {BITS: np.uint8, FLOAT32: np.float32, UINT8: np.uint8}.get(plain, np.uint16)
    if kind & DEFLATED:
        stored = _sums(zlib.decompress(body), shape, np.dtype(dtype))
    else:
        stored = np.frombuffer(body, dtype).reshape(shape)
    if plain == BITS:
        return torch.from_numpy(np.unpackbits(stored, axis=-1, count=width).view(bool))
    if plain == FLOAT32:
        values = torch.from_numpy(stored.copy())
    else:
        divisor = {UINT8: 255, UINT16: 65535}.get(plain) or FIXED[plain]
        values = torch.from_numpy(stored.astype(np.float32)).div_(divisor)
    return values.expand(3, -1, -1).contiguous() if kind & GREY else values


def _differences(stored: NDArray) -> UInt8[np.ndarray, "P H W"]:
    """Planes of bytes, each row less the one above, modulo 256."""
    size = stored.dtype.itemsize
    rows = np.ascontiguousarray(stored).view(np.uint8).reshape(-1, *stored.shape[-2:], size)
    planes = np.ascontiguousarray(np.moveaxis(rows, -1, 0)).reshape(-1, *stored.shape[-2:])
    differences = planes.copy()
    differences[:, 1:] -= planes[:, :-1]
    return differences


def _sums(body: bytes, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Undo `_differences`."""
    planes = np.frombuffer(body, np.uint8).reshape(-1, *shape[-2:]).copy()
    for row in range(1, planes.shape[1]):  # faster than np.add.accumulate
        planes[:, row] += planes[:, row - 1]
    if dtype.itemsize == 1:
        return planes.reshape(shape)
    planes = planes.reshape(dtype.itemsize, *shape)
    numbers = np.empty((*shape, dtype.itemsize), np.uint8)
    for index, plane in enumerate(planes):
        numbers[..., index] = plane
    return numbers.view(dtype)[..., 0]
