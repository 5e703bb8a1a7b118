# SPDX-License-Identifier: Apache-2.0
"""What the tests of registries share: the programs, two layers (B has NOISE as its file c), and an environment
without the caller's."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "image"))
from images import *
from server import *

TOOL, CLI = sys.argv[1:3]
sys.argv[1:3] = [TOOL]
A = tar([("a", b"A" * 5000), ("dir/b", b"B" * 70000)])
NOISE = random.Random(2).randbytes(300000)
B = tar([("c", NOISE)])


def environment(home, **more):
    keep = {k: os.environ[k] for k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS") if k in os.environ}
    return {**keep, "HOME": home, **more}
