# SPDX-License-Identifier: Apache-2.0
"""carry.py FILE: a chain of hashes and one of floats that each step makes of the one before; FILE has the
latest step, `N HASH FLOAT`. Whoever reads it can work out both for itself."""
import hashlib
import os
import sys


def chain():
    digest, x, n = b"", 0.3, 0
    while True:
        for _ in range(2000):
            n += 1
            digest = hashlib.sha256(digest + str(n).encode()).digest()
            x = 3.9 * x * (1 - x)
        yield n, digest.hex(), x.hex()


def main():
    for n, digest, x in chain():
        with open(sys.argv[1] + ".new", "w") as f:
            f.write(f"{n} {digest} {x}\n")
        os.rename(sys.argv[1] + ".new", sys.argv[1])


if __name__ == "__main__":
    main()
