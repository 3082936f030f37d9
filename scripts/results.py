"""The files that `stereo-tr estimate` writes for one pair.

    NAME.pfm             disparity in pixels, float32
    NAME.png             the same as 16-bit PNG, x 256 (KITTI); 0 = above 255.99, doesn't fit
    NAME_color.png       for reading: inferno, near is light, with a scale bar
    NAME_occlusion.png   white where the right camera doesn't see the point
    NAME_depth.pfm       metres, float32; inf where disparity + offset is 0 or less
    NAME.ply             coloured points in metres: x right, y down, z forward

Letters  H W image height and width in pixels
Tests    tests/scripts/test_estimate.py
"""

import numpy as np
import torch
from jaxtyping import Shaped

from stereo_tr.datasets.calibration import Calibration
from stereo_tr.datasets.files import as_uint8, encode_disparity_png, encode_pfm, encode_png
from stereo_tr.geometry import disparity_to_depth, point_cloud
from stereo_tr.matcher import StereoResult
from stereo_tr.pictures import disparity_picture, probability_picture

MOST_OCCLUDED_POINT = 0.5
"""a point that is more likely hidden than seen has a guessed depth, and stays out of the cloud"""
LEAST_POINT_DISPARITY = 1.0
"""pixels: below it an error of a quarter of a pixel moves a point by a quarter of its distance"""


def suffixes(depth: bool, ply: bool) -> list[str]:
    """What the files of one pair end in."""
    always = [".pfm", ".png", "_color.png", "_occlusion.png"]
    return always + ["_depth.pfm"] * depth + [".ply"] * ply


def disparity_files(result: StereoResult, calibration: Calibration | None) -> dict[str, bytes]:
    """What every pair gets: suffix of the file name -> content."""
    metres = (None, 0.0)
    if calibration is not None:
        metres = (calibration.focal_length * calibration.baseline, calibration.principal_offset)
    return {
        ".pfm": encode_pfm(result.disparity),
        ".png": encode_disparity_png(result.disparity),
        "_color.png": encode_png(disparity_picture(result.disparity, *metres)),
        "_occlusion.png": encode_png(probability_picture(result.occlusion)),
    }


def depth_file(result: StereoResult, calibration: Calibration) -> dict[str, bytes]:
    """Depth in metres as PFM."""
    return {"_depth.pfm": encode_pfm(_depth(result, calibration).numpy())}


def point_cloud_file(
    result: StereoResult, calibration: Calibration, left: Shaped[np.ndarray, "H W 3"]
) -> dict[str, bytes]:
    """Points of the left view in its colours, as binary PLY, without the guessed and the far ones.

    The principal point is the image's centre where the calibration has none.
    """
    import trimesh  # takes a second, and few ask for it

    height, width = result.disparity.shape
    centre = calibration.principal_point or ((width - 1) / 2, (height - 1) / 2)
    depth = _depth(result, calibration)
    points = point_cloud(depth[None], calibration.focal_length, centre)[0].numpy()
    shifted = result.disparity + calibration.principal_offset
    keep = (result.occlusion <= MOST_OCCLUDED_POINT) & (shifted >= LEAST_POINT_DISPARITY)
    if not keep.any():
        raise ValueError("no point is seen by both cameras and near enough for a point cloud")
    cloud = trimesh.PointCloud(points[keep], colors=as_uint8(left)[keep])
    return {".ply": cloud.export(file_type="ply")}


def _depth(result: StereoResult, calibration: Calibration) -> torch.Tensor:
    return disparity_to_depth(
        torch.from_numpy(result.disparity),
        calibration.focal_length,
        calibration.baseline,
        calibration.principal_offset,
    )
