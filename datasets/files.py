"""Pictures and disparity maps on disk: read whole or not at all, written whole or not at all.

    .png .jpg .tif ...   views: 8 or 16 bit, grey, colour, palette or with alpha
    .pfm                 float32 maps: rows run bottom-up, the sign of the scale is the byte order,
                         inf (or NaN) = unknown
    .png, 16 bit         KITTI's disparity: stored = disparity * 256, 0 = unknown

Letters  H W image height and width, in pixels
Source   PFM: https://www.pauldebevec.com/Research/HDR/PFM; Middlebury v3 and SceneFlow store maps
         so. 16-bit disparity: the development kit of KITTI stereo 2015
Tests    tests/datasets/test_files.py
"""

import io
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from PIL import Image

IMAGE_SUFFIXES = (
    *(".bmp", ".jpeg", ".jpg", ".pfm", ".pgm"),
    *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)
PNG_END = b"IEND\xaeB`\x82"
"""the last chunk, which holds nothing, and its check sum"""
KITTI_SCALE = 256
_WHITE = re.compile(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*(\d+)){3}\s")
"""the head of a PPM or PGM: width, height, and the value of white, which alone is kept"""
_ORIENTATION = 274
"""TIFF's tag that says how to turn what is stored"""
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: np.rot90,
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""the way back of each turn"""
LARGEST_KITTI_DISPARITY = (2**16 - 1) / KITTI_SCALE


def read_image(path: str | Path) -> Shaped[np.ndarray, "H W 3"]:
    """Read a picture as RGB: uint8, or uint16 where the file holds more than 8 bits.

    Grey is repeated three times. Alpha is dropped, not blended: a view needs a colour everywhere,
    and blending would paint a background into it that the other view doesn't have. Orientation tags
    are not followed: pairs are rectified, and calibrated, as they are stored. What a PPM or PGM
    calls white becomes the largest value. Float pictures (PFM, grey TIFF) become uint16; they span
    [0, 1], or [0, 255] where their largest value says so. Raises
    FileNotFoundError, or ValueError for what is no whole picture.
    """
    path = Path(path)
    data = _read_bytes(path)
    if path.suffix.lower() == ".pfm":
        image = _decode_pfm(data, path)
        image = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image
    else:
        image = _as_stored(_white_at_top(_decode(data, path), data), data)
        if image.ndim == 2 or image.shape[2] < 3:  # grey, with or without alpha
            image = np.repeat(image.reshape(*image.shape[:2], -1)[..., :1], 3, -1)
        else:
            image = np.ascontiguousarray(image[..., 2::-1])  # OpenCV puts blue first
    if image.dtype in (np.uint8, np.uint16):
        return image
    if np.issubdtype(image.dtype, np.floating):
        return _float_to_uint16(image, path)
    raise ValueError(f"{path}: holds {image.dtype}; pictures are 8 or 16 bit, or float")


def read_disparity(
    path: str | Path,
) -> tuple[Float32[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Read a disparity map in pixels, and where it is known: `.pfm`, or 16-bit `.png` (x 256).

    Disparity is 0 where it isn't known. SceneFlow's subset stores negative values; they come back
    as they are. Raises FileNotFoundError, or ValueError for anything that isn't such a file.
    """
    path = Path(path)
    if path.suffix.lower() == ".pfm":
        disparity = _decode_pfm(_read_bytes(path), path)
        if disparity.ndim != 2:
            raise ValueError(f"{path}: a colour PFM is no disparity map; expected one channel")
        valid = np.isfinite(disparity)
        return np.where(valid, disparity, np.float32(0)), valid
    stored = _decode(_read_bytes(path), path)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        kind = f"{8 * stored.itemsize} bit, {1 if stored.ndim == 2 else stored.shape[2]} channels"
        raise ValueError(f"{path}: {kind}; a disparity map is .pfm, or 16-bit grey .png (x 256)")
    return stored.astype(np.float32) / KITTI_SCALE, stored > 0


def encode_pfm(values: Float32[np.ndarray, "H W"]) -> bytes:
    """One channel as little-endian PFM; write inf where a value is unknown."""
    height, width = values.shape
    return f"Pf\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes()


def encode_png(image: Shaped[np.ndarray, "H W *channels"]) -> bytes:
    """A picture, grey or RGB, uint8 or uint16, as PNG."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()


def encode_disparity_png(
    disparity: Float32[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"] | None = None
) -> bytes:
    """Disparity as KITTI stores it: 16 bit, x 256, 0 where not `valid` (default: valid everywhere).

    Known disparities below 1/256 px are stored as 1, because 0 says unknown; those above
    `LARGEST_KITTI_DISPARITY` don't fit and become unknown.
    """
    known = (disparity <= LARGEST_KITTI_DISPARITY) & (True if valid is None else valid)
    stored = np.clip(np.round(np.where(known, disparity, 0) * KITTI_SCALE), 1, 2**16 - 1)
    return encode_png(np.where(known, stored, 0).astype(np.uint16))


def write_pfm(path: str | Path, values: Float32[np.ndarray, "H W"]) -> None:
    """Write `encode_pfm`, whole or not at all."""
    write_bytes(path, encode_pfm(values))


def write_png(path: str | Path, image: Shaped[np.ndarray, "H W *channels"]) -> None:
    """Write `encode_png`, whole or not at all."""
    write_bytes(path, encode_png(image))


def write_disparity_png(
    path: str | Path,
    disparity: Float32[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"] | None = None,
) -> None:
    """Write `encode_disparity_png`, whole or not at all."""
    write_bytes(path, encode_disparity_png(disparity, valid))


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write one file: whole, or not at all. An OSError (disk full, no permission) names it."""
    write_files({Path(path): data})


def write_files(contents: Mapping[Path, bytes | memoryview]) -> None:
    """Write several files that belong together: all of them, or none."""
    for path in contents:
        if path.is_dir():  # known before the first of them has its name
            raise IsADirectoryError(f"cannot write {path}: a folder stands in the way")
    with ExitStack() as stack:
        for path, data in contents.items():
            temporary = stack.enter_context(atomic(path))
            temporary.write_bytes(data)
            _put_on_disk(temporary)  # what fails here does so before the first has its name


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, with its suffix; it replaces `path` at the end.

    Where the block fails, for whatever reason, nothing is left behind and an older `path` stays,
    also where the power fails. An OSError names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        _put_on_disk(temporary)  # or the new name could reach it before the content
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:  # a sentence already, from another file of the same group
            raise
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def _put_on_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def writable_folder(path: str | Path) -> Path:
    """Make `path` a folder that can be written to, or raise an OSError that names it.

    Call it before the work begins, not after an hour of it.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # without a name: a kill leaves nothing behind
            pass
    except OSError as error:
        reason = "a file stands in the way" if _file_in_the_way(path) else error.strerror
        raise type(error)(f"cannot write to folder {path}: {reason}") from error
    return path


def _file_in_the_way(path: Path) -> bool:
    return any(part.is_file() for part in (path, *path.parents))


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; expected a file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except OSError as error:
        raise type(error)(f"{path}: cannot be read: {error.strerror}") from error


def _decode(data: bytes, path: Path) -> Shaped[np.ndarray, "H W *channels"]:
    """Decode with OpenCV, which keeps 16 bits, what Pillow has found whole: as stored, blue first.

    OpenCV fills the missing half of a JPEG with grey and says so on standard error only; Pillow
    refuses it, but turns 16-bit colour into 8 bits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TIFF tags that don't matter
            with Image.open(io.BytesIO(data)) as picture:
                picture.verify()  # check sums
                if picture.format == "PNG" and PNG_END not in data:
                    raise EOFError("its end is missing")
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a picture that can be read") from error
    except Exception as error:  # decoders meet broken bytes with errors of every kind
        raise ValueError(f"{path}: truncated or damaged picture ({error})") from error
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{path}: cannot be decoded ({error.err})") from error
    if image is None:
        raise ValueError(f"{path}: a kind of picture that cannot be decoded; save it as PNG")
    return image


def _white_at_top(
    image: Shaped[np.ndarray, "H W *channels"], data: bytes
) -> Shaped[np.ndarray, "H W *channels"]:
    """Spread a PPM or PGM, which may call any value white, over all of 8 or 16 bits."""
    header = _WHITE.match(data)
    top = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 0
    if header is None or int(header[1]) in (0, top):
        return image
    return np.round(image * (top / int(header[1]))).clip(max=top).astype(image.dtype)


def _as_stored(
    image: Shaped[np.ndarray, "H W *channels"], data: bytes
) -> Shaped[np.ndarray, "_ _ *channels"]:
    """Take back how OpenCV turned a TIFF; it can't be asked not to."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return image
    with Image.open(io.BytesIO(data)) as picture:
        turned = picture.tag_v2.get(_ORIENTATION, 1)
    return _AS_STORED.get(turned, lambda same: same)(image)


def _decode_pfm(data: bytes, path: Path) -> Float32[np.ndarray, "H W *channels"]:
    """Rows top-down, float32. OpenCV would divide the values by the scale, which is no unit here.

    A view in the same kind of file is RGB and comes with three channels.
    """
    header = re.match(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s", data)
    if header is None:
        raise ValueError(f"{path}: not a PFM file (it starts with PF or Pf, the size and a scale)")
    kind, width, height, scale = header.groups()
    shape = (int(height), int(width), 3)[: 3 if kind == b"PF" else 2]
    stored, expected = len(data) - header.end(), 4 * math.prod(shape)
    if stored < expected or expected == 0:
        raise ValueError(f"{path}: truncated PFM: {stored} bytes of pixels, expected {expected}")
    order = "<f4" if scale.startswith(b"-") else ">f4"
    values = np.frombuffer(data, order, expected // 4, header.end()).reshape(shape)
    return values[::-1].astype(np.float32)


def _float_to_uint16(image: Shaped[np.ndarray, "H W 3"], path: Path) -> Shaped[np.ndarray, "H W 3"]:
    lowest, highest = float(image.min()), float(image.max())
    # Between 1 and 2 lies overexposed [0, 1] as much as a nearly black [0, 255]: don't guess.
    if not (lowest >= 0 and (highest <= 1 or 2 < highest <= 255)):
        raise ValueError(
            f"{path}: float values from {lowest:g} to {highest:g}; a view spans [0, 1] or [0, 255]"
        )
    brightest = 1 if highest <= 1 else 255
    return np.round(image / brightest * (2**16 - 1)).astype(np.uint16)


def as_uint8(image: Shaped[np.ndarray, "*size"]) -> UInt8[np.ndarray, "*size"]:
    """A uint8 or uint16 picture in 8 bits, for showing."""
    return image if image.dtype == np.uint8 else np.round(image / 257).astype(np.uint8)
