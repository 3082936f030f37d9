"""Stereo data: what a sample is, where samples come from, and how they are changed for training.

Nothing is imported here, so that `stereo-tr --help` needn't wait for torch: take what you need from
sample.py, generated.py, registry.py.
"""
