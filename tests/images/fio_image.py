# SPDX-License-Identifier: Apache-2.0
"""A small Debian image with fio, made by mmdebstrap and kept in out/cache/images/fio-KEY: oci/ (tag big)."""
import sys

import big_build
from image_cache import APT_SOURCE, cached, call


def build(work):
    call("mmdebstrap", "--variant=essential", "--include=fio", "bookworm", f"{work}/layer.tar", APT_SOURCE)
    big_build.make_layout(f"{work}/oci", f"{work}/layer.tar")


def image(source_dir):
    """The folder with the image, built if need be. Raises Skip when this host cannot."""
    return cached(source_dir, "fio-", [__file__], ["mmdebstrap"], build)


if __name__ == "__main__":
    print(image(sys.argv[1]))
