"""Mask transformers on the shared core: MaX-, CMT- and kMaX-DeepLab."""
