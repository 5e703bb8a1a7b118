# SPDX-License-Identifier: Apache-2.0
"""Images that take minutes to build are built once, and kept in out/cache/images."""
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

SOURCES = "/etc/apt/sources.list.d/debian.sources"
APT_SOURCE = SOURCES if os.path.exists(SOURCES) else "deb http://deb.debian.org/debian bookworm main"
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


def cached(source_dir, prefix, files, tools, build):
    """The folder that build(folder) filled, now or before; its name is the prefix and a hash of the files.
    Raises Skip when this host cannot build it."""
    if os.geteuid() != 0:
        raise Skip("not root: no chroot to compare with")
    for tool in tools:
        if not shutil.which(tool):
            raise Skip(f"no {tool}")
    key = hashlib.sha256()
    for path in filter(os.path.exists, files):
        with open(path, "rb") as f:
            key.update(f.read())
    cache = f"{source_dir}/out/cache/images"
    os.makedirs(cache, exist_ok=True)
    done = f"{cache}/{prefix}{key.hexdigest()[:16]}"
    with open(f"{cache}/{prefix}lock", "w") as lock:
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
