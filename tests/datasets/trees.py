"""Writes tiny data sets for tests, byte by byte where the format matters."""

import cv2
import numpy as np

HEIGHT, WIDTH = 3, 5
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def ramp(first=0.25):
    """A disparity that differs in every pixel, upside down and mirrored too: y + x / 4 + first."""
    return (ROWS + COLUMNS / 4 + first).astype(np.float32)


def write_pfm(path, values, order="<"):
    """Rows bottom-up; the scale's sign is the byte order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.asarray(values, order + "f4")[::-1]
    scale = b"-1.0" if order == "<" else b"1.0"
    size = b"%d %d" % (stored.shape[1], stored.shape[0])
    path.write_bytes(b"Pf\n" + size + b"\n" + scale + b"\n" + stored.tobytes())


def write_picture(path, image):
    """Grey, or red, green, blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.asarray(image)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def write_views(left, right, height=HEIGHT, width=WIDTH):
    """Two different pictures; the left one's red channel is 16 y + x."""
    rows, columns = np.mgrid[:height, :width]
    view = np.stack([16 * rows + columns, 9 + 0 * rows, 200 - rows], -1).astype(np.uint8)
    write_picture(left, view)
    write_picture(right, view[:, ::-1])


def write_npy(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def outside(disparity):
    """Where x - disparity lies left of the picture, counted by hand."""
    return [[x - d < 0 for x, d in enumerate(row)] for row in disparity.tolist()]


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
