"""With `pytest -n auto` there is a process for each core: each of them keeps to one thread.

Where there is no GPU, Triton's kernels are interpreted. Triton looks at that when it is imported.
"""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
