"""CMT-DeepLab: the same encoder and pixel decoder, queries as cluster centres.

What the paper adds is the layer (clustering.py). No code was published, and the paper's decoder was
not rebuilt row by row: this model stands where kMaX-DeepLab's MaX-S stands, with six clustering
layers for six k-means layers, so that the two differ in the interaction alone.

Source   Yu et al. 2022, https://arxiv.org/abs/2206.08948
Tests    tests/mask/test_clustering.py
"""

from functools import partial

from .kmax_deeplab import KMaxDeepLab

cmt_deeplab_max_s = partial(KMaxDeepLab, backbone="max_s", interaction="clustering")
