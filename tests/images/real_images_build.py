# SPDX-License-Identifier: Apache-2.0
"""Real images from Debian packages, made by mmdebstrap and umoci and kept in out/cache/images/KEY.

KEY hashes this file and the apt sources, so the sanitizer runs reuse what the first run built. Inside:
oci/ (tags bookworm, python3, nodejs, redis: each one layer more; user: redis with another config),
zstd/ (bookworm recompressed), bookworm.tar (docker-archive), rootfs/ (the tree of tag redis, for chroot)."""
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

SOURCES = "/etc/apt/sources.list.d/debian.sources"
DEFAULT_SOURCE = "deb http://deb.debian.org/debian bookworm main"
BASE = ["perl"]
LAYERS = [("python3", ["python3"]), ("nodejs", ["nodejs"]), ("redis", ["redis-server"])]
TOOLS = ["mmdebstrap", "umoci", "skopeo", "chroot", "unshare"]
NO_NETWORK = re.compile(r"Could not resolve|Could not connect|Temporary failure|Failed to fetch|"
                        r"Connection (refused|timed out)|Network is unreachable|Unable to connect")


class Skip(Exception):
    """The images cannot be built here, and the reason is not ours."""


def call(*argv):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace")
    if p.returncode == 0:
        return
    if NO_NETWORK.search(p.stdout):
        raise Skip(f"no package mirror: {NO_NETWORK.search(p.stdout).group(0)} ({argv[0]})")
    raise RuntimeError(f"{' '.join(argv)}: status {p.returncode}\n{p.stdout[-3000:]}")


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
         SOURCES if os.path.exists(SOURCES) else DEFAULT_SOURCE)
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
    if os.geteuid() != 0:
        raise Skip("not root: no chroot to compare with")
    for tool in TOOLS:
        if not shutil.which(tool):
            raise Skip(f"no {tool}")
    key = hashlib.sha256(open(__file__, "rb").read())
    if os.path.exists(SOURCES):
        key.update(open(SOURCES, "rb").read())
    cache = f"{source_dir}/out/cache/images"
    os.makedirs(cache, exist_ok=True)
    done = f"{cache}/{key.hexdigest()[:16]}"
    with open(f"{cache}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(done):
            work = tempfile.mkdtemp(prefix="tmp.", dir=cache)
            try:
                build(work)
                os.chmod(work, 0o755)
                os.rename(work, done)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return done
