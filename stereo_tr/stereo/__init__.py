"""Stereo models: two rectified views in, disparity and occlusion of the left one out."""
