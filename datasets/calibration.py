"""Calibration files of rectified pairs: what turns disparity into metres.

Middlebury (and ETH3D) `calib.txt`, baseline in millimetres, rows of a matrix split by semicolons:

    cam0=[999.421 0 294.182; 0 999.421 252.932; 0 0 1]
    cam1=[999.421 0 326.96; 0 999.421 252.932; 0 0 1]
    doffs=32.778
    baseline=193.001
    width=741
    height=497

KITTI, 3x4 projection matrices row by row in pixels and metres, `P2:` or `P_rect_02:` for the left
colour camera and 3 for the right one (0 and 1: the grey ones):

    P2: 721.5 0 609.6 44.86 0 721.5 172.9 0.2164 0 0 1 0.002746
    P3: 721.5 0 609.6 -339.5 0 721.5 172.9 2.2 0 0 1 0.002730

Source  https://vision.middlebury.edu/stereo/data/scenes2014/#description; the development kits of
        KITTI stereo 2012 and 2015: the fourth entry is -focal length * camera position
Tests   tests/datasets/test_calibration.py
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KITTI_CAMERAS = ((2, 3), (0, 1))
"""left and right: the colour cameras where the file has them, else the grey ones"""


@dataclass(frozen=True)
class Calibration:
    """A rectified pair of cameras: depth = baseline * focal_length / (disparity + offset)."""

    focal_length: float
    """pixels"""
    baseline: float
    """metres between the cameras"""
    principal_offset: float = 0.0
    """pixels: the right principal point's x less the left one's (Middlebury's doffs)"""
    principal_point: tuple[float, float] | None = None
    """pixels, (x, y) in the left view; None where the file doesn't tell"""
    size: tuple[int, int] | None = None
    """height and width of the images it belongs to; None where the file doesn't tell"""


def read_calibration(path: str | Path, baseline: float | None = None) -> Calibration:
    """Read a Middlebury or KITTI calibration; `baseline` in metres takes the place of the file's.

    Raises FileNotFoundError, and ValueError where the file is neither, or lacks what is needed.
    """
    path = Path(path)
    try:
        # Editors of Windows put a byte order mark first, which would be part of the first name.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such calibration file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file, so no calibration") from error
    except OSError as error:
        raise type(error)(f"{path}: cannot be read: {error.strerror}") from error
    pairs = (re.split(r"\s*[=:]\s*", line.strip(), maxsplit=1) for line in lines)
    entries = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    if "cam0" in entries:
        calibration = _middlebury(entries, path, baseline)
    elif cameras := _kitti_cameras(entries, path):
        calibration = _kitti(cameras, path, baseline)
    else:
        raise ValueError(
            f"{path}: no calibration of Middlebury (cam0=[...]) or KITTI (P2: ..., P_rect_02: ...)"
        )
    if not (calibration.focal_length > 0 and calibration.baseline > 0):
        raise ValueError(
            f"{path}: focal length {calibration.focal_length:g} px, baseline "
            f"{calibration.baseline:g} m; both must be positive. Are the cameras swapped?"
        )
    return calibration


def _middlebury(entries: dict[str, str], path: Path, baseline: float | None) -> Calibration:
    camera = _numbers(entries["cam0"], 9, "cam0", path)
    if "doffs" in entries:
        offset = _numbers(entries["doffs"], 1, "doffs", path)[0]
    elif "cam1" in entries:
        offset = _numbers(entries["cam1"], 9, "cam1", path)[2] - camera[2]
    else:
        offset = 0.0
    if baseline is None:
        if "baseline" not in entries:
            raise ValueError(_no_baseline(path))
        baseline = _numbers(entries["baseline"], 1, "baseline", path)[0] / 1000  # millimetres
    size = None
    if "width" in entries and "height" in entries:
        size = tuple(int(_numbers(entries[key], 1, key, path)[0]) for key in ("height", "width"))
    return Calibration(camera[0], baseline, offset, (camera[2], camera[5]), size)


def _kitti_cameras(entries: dict[str, str], path: Path) -> dict[int, np.ndarray]:
    cameras = {}
    for key, text in entries.items():
        if match := re.fullmatch(r"P_rect_0(\d)|P(\d)", key):
            number = int(match[1] or match[2])
            cameras[number] = np.reshape(_numbers(text, 12, key, path), (3, 4))
    return cameras


def _kitti(cameras: dict[int, np.ndarray], path: Path, baseline: float | None) -> Calibration:
    left, right = next((pair for pair in KITTI_CAMERAS if pair[0] in cameras), (None, None))
    if left is None:
        raise ValueError(f"{path}: no left camera (P2 or P0, P_rect_02 or P_rect_00)")
    first, second = cameras[left], cameras.get(right)
    focal_length = float(first[0, 0])
    if baseline is None:
        if second is None:
            raise ValueError(_no_baseline(path))
        baseline = float(first[0, 3] - second[0, 3]) / (focal_length or 1.0)
    offset = 0.0 if second is None else float(second[0, 2] - first[0, 2])
    return Calibration(focal_length, baseline, offset, (float(first[0, 2]), float(first[1, 2])))


def _numbers(text: str, count: int, key: str, path: Path) -> list[float]:
    try:
        numbers = [float(word) for word in re.sub(r"[\[\];,]", " ", text).split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{path}: {key} should hold {count} number(s), it says {text!r}")
    return numbers


def _no_baseline(path: Path) -> str:
    return f"{path}: no baseline; pass the distance between the cameras in metres (--baseline)"
