import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from stereo_tr.heap import keep_freed_memory
kept = {keep} and keep_freed_memory()
rounds = []
for _ in range(20):  # the least counts: the first few find no hole that is large enough
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), min(rounds))
"""


def faults(keep):
    program = PROGRAM.format(keep=keep)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return map(int, done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is asked")
def test_freed_memory_is_used_again_without_new_pages():
    kept, few = faults(keep=True)
    if not kept:
        pytest.skip("this C library has no mallopt")
    pages = 40_000_000 // resource.getpagesize()
    _, many = faults(keep=False)
    assert few < 0.01 * pages < 0.9 * pages < many
