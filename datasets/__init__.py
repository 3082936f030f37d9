"""Stereo data: what a sample is, where samples come from, and how they are changed for training."""

from .generated import GeneratedScenes
from .sample import StereoSample

__all__ = ["GeneratedScenes", "StereoSample"]
