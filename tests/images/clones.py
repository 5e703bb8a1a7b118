#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Restored machines draw different random numbers in Python and in OpenSSL: clones.py SUPERMACHINE. Each run
starts from the snapshot of the image's first. 6 runs; SM_LONG=1: 64."""
import os
import sys
import tempfile

import real_images_build
from image_cache import Skip
from real_images_run import guest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("SM_SOURCE_DIR", os.path.dirname(os.path.dirname(HERE)))
RUNS = 64 if "SM_LONG" in os.environ else 6
PROGRAM = """
import os, random, secrets, ssl, tempfile, uuid
print("os.urandom", os.urandom(16).hex())
print("random", random.getrandbits(128))
print("secrets", secrets.token_hex(16))
print("OpenSSL", ssl.RAND_bytes(16).hex())
print("uuid4", uuid.uuid4())
print("hash seed", hash("a name"))
print("temporary name", tempfile.mktemp())
"""
FACTS = PROGRAM.count("print(")


def main():
    try:
        image = f"oci:{real_images_build.images(SOURCE)}/oci:python3"
    except Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    seen, failed = set(), 0
    with tempfile.TemporaryDirectory(prefix="sm-clones.") as home:
        for run in range(RUNS + 1):  # the first makes the snapshot
            got = guest(sys.argv[1], image, ["python3", "-c", PROGRAM], home=home)
            lines = got.out.decode().splitlines()
            if got.status or len(lines) != FACTS:
                print(f"FAIL run {run}: status {got.status}, {got.out!r} {got.err[-2000:]!r}")
                return 1
            again = seen.intersection(lines)
            failed += len(again)
            seen.update(lines)
            for line in again:
                print(f"FAIL run {run}: as in another run: {line}")
        snapshots = len(os.listdir(home + "/snapshots"))
    if snapshots != 1:
        print(f"FAIL: {snapshots} snapshots: the runs did not start from one")
        failed += 1
    print(f"{RUNS} runs, {FACTS} random numbers each, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
