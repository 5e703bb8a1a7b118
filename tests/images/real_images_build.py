# SPDX-License-Identifier: Apache-2.0
"""Real images from Debian packages, made by mmdebstrap and umoci and kept in out/cache/images/KEY.

KEY hashes this file and the apt sources, so the sanitizer runs reuse what the first run built. Inside:
oci/ (tags bookworm, python3, nodejs, redis: each one layer more; user: redis with another config),
zstd/ (bookworm recompressed), bookworm.tar (docker-archive), rootfs/ (the tree of tag redis, for chroot)."""
import contextlib
import os
import shutil

from image_cache import APT_SOURCE, SOURCES, cached, call

BASE = ["perl"]
LAYERS = [("python3", ["python3"]), ("nodejs", ["nodejs"]), ("redis", ["redis-server"])]
TOOLS = ["mmdebstrap", "umoci", "skopeo", "chroot", "unshare"]


@contextlib.contextmanager
def network_files(root, work):
    """While packages are installed: name servers and package lists, which no layer shall hold."""
    lists, conf, kept = f"{root}/var/lib/apt/lists", f"{root}/etc/resolv.conf", f"{work}/lists"
    if os.path.isdir(kept):
        shutil.rmtree(lists)
        os.rename(kept, lists)
    before = open(conf, "rb").read() if os.path.exists(conf) else None
    shutil.copy("/etc/resolv.conf", conf)
    yield
    os.unlink(conf)
    if before is not None:
        open(conf, "wb").write(before)
    os.rename(lists, kept)
    os.makedirs(f"{lists}/partial")


def build(work):
    oci, bundle = f"{work}/oci", f"{work}/bundle"
    root = f"{bundle}/rootfs"

    def repack(tag):
        call("umoci", "repack", "--image", f"{oci}:{tag}", "--refresh-bundle", bundle)

    call("umoci", "init", "--layout", oci)
    call("umoci", "new", "--image", f"{oci}:bookworm")
    call("umoci", "unpack", "--image", f"{oci}:bookworm", bundle)
    call("mmdebstrap", "--variant=apt", f"--include={','.join(BASE)}", "bookworm", root,
         APT_SOURCE)
    repack("bookworm")
    apt = ["chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y",
           "--no-install-recommends"]
    for tag, packages in LAYERS:
        with network_files(root, work):
            if tag == LAYERS[0][0]:
                call(*apt, "update")
            call(*apt, "install", *packages)
            call(*apt, "clean")
        if tag == "redis":  # names of lower layers go away: whiteouts
            shutil.rmtree(f"{root}/usr/share/doc/perl")
            os.unlink(f"{root}/etc/issue.net")
        repack(tag)
    call("umoci", "config", "--image", f"{oci}:redis", "--tag", "user", "--config.user",
         "www-data", "--config.workingdir", "/var/tmp", "--config.env", "GREETING=two words",
         "--config.entrypoint", "/usr/bin/perl", "--config.cmd", "-e", "--config.cmd",
         'use Cwd; print join("|", $<, $>, $( + 0, cwd, $ENV{GREETING}, -w "/etc/passwd" ? "w" : "ro"), "\\n"')
    call("skopeo", "copy", "-q", "--dest-compress", "--dest-compress-format", "zstd",
         f"oci:{oci}:bookworm", f"oci:{work}/zstd:bookworm")
    call("skopeo", "copy", "-q", f"oci:{oci}:bookworm",
         f"docker-archive:{work}/bookworm.tar:debian:bookworm")
    for rest in ("bundle", "lists"):
        shutil.rmtree(f"{work}/{rest}")
    # Not the tree that was packed: umoci rounds times, and what it unpacks is what the layers say.
    call("umoci", "unpack", "--image", f"{oci}:redis", bundle)
    os.rename(root, f"{work}/rootfs")
    shutil.rmtree(bundle)


def images(source_dir):
    """The folder with the images, built if need be. Raises Skip when this host cannot."""
    return cached(source_dir, "", [__file__, SOURCES], TOOLS, build)
