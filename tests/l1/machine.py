# SPDX-License-Identifier: Apache-2.0
"""The L1 machine: a Linux under QEMU with an emulated AMD SVM, whose /dev/kvm the KVM engine is tested
with. Built from Debian packages and kept in out/cache/l1/KEY; KEY hashes what it is built from.

  base.erofs     a Debian with what the tests need, made by mmdebstrap
  tests.erofs    made for each run: a build folder's programs and the tests, below /sm
  initramfs      busybox, the modules, and INIT

Inside, /sm/steps is run line by line (NAME SECONDS COMMAND). Each step's output stands between two lines
of the console that begin with MARK."""
import contextlib
import fcntl
import hashlib
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time

PATIENCE = 90  # seconds for what L1 does between steps, and for a step to be ended by L1
PACKAGES = ["python3", "busybox-static", "libcmocka0", "libarchive13", "libjansson4", "libssl3",
            "libzstd1", "zlib1g", "liblzma5", "libcurl4", "libslirp0", "libseccomp2", "util-linux", "mount", "zstd",
            "qemu-system-x86"]
LEAVE_OUT = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*",
             "/var/cache/apt/*", "/var/lib/apt/lists/*"]
SOURCES = "/etc/apt/sources.list.d/debian.sources"
DEFAULT_SOURCE = "deb http://deb.debian.org/debian bookworm main"
MODULES = ["virtio_pci", "virtio_blk", "erofs", "overlay", "irqbypass", "kvm", "kvm-amd"]
TOOLS = ["qemu-system-x86_64", "mmdebstrap", "mkfs.erofs", "cpio", "objcopy"]
# No XSAVE: QEMU's SVM does not let a hypervisor see a guest's XSETBV, so KVM would not know the guest's
# XCR0. Guests then get CPU model v2.
CPU = "EPYC,+svm,+npt,-xsave,-xsaveopt,-xgetbv1,-avx,-avx2,-fma,-f16c"
QEMU = ["qemu-system-x86_64", "-M", "q35", "-cpu", CPU, "-accel",
        "tcg,thread=multi", "-smp", "2", "-m", "1500", "-nodefaults", "-no-reboot", "-display",
        "none", "-serial", "stdio"]
NO_NETWORK = re.compile(r"Could not resolve|Could not connect|Temporary failure|Failed to fetch|"
                        r"Connection (refused|timed out)|Network is unreachable|Unable to connect")
MARK = "@@l1"
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
for m in $(cat /modules/order); do insmod /modules/$m || echo "cannot load $m"; done
mkdir -p /base /tests /top /root
mount -t erofs -o ro /dev/vda /base && mount -t erofs -o ro /dev/vdb /tests || poweroff -f
mount -t tmpfs -o size=70% none /top
mkdir /top/up /top/work
mount -t overlay -o lowerdir=/tests:/base,upperdir=/top/up,workdir=/top/work none /root
for d in dev proc sys; do mount --move /$d /root/$d; done
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts none /root/dev/pts; mount -t tmpfs none /root/dev/shm; mount -t tmpfs none /root/tmp
ip link set lo up 2>/dev/null
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
dmesg -n 1 # KVM tells of each MSR that it does not know
echo "{MARK} ready"
while read -r name seconds command; do
    echo "{MARK} begin $name"
    timeout -s KILL "$seconds" chroot /root sh -c "cd /sm; $command" </dev/null 2>&1
    echo "{MARK} end $name $?"
done </root/sm/steps
echo "{MARK} done"
poweroff -f
"""


class Skip(Exception):
    """The machine cannot be built or run here, and the reason is not ours."""


class Failed(Exception):
    pass


class Frozen(Failed):
    """L1 says nothing more, although it ends every step that takes too long: QEMU's emulation of SVM
    hangs at times, or what we did in there hung all of L1."""


def call(*argv, **more):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    if p.returncode:
        if NO_NETWORK.search(p.stdout):
            raise Skip(f"no package mirror: {NO_NETWORK.search(p.stdout).group(0)} ({argv[0]})")
        raise Failed(f"{' '.join(argv)}: status {p.returncode}\n{p.stdout[-3000:]}")


def build_base(work):
    options = [f"--dpkgopt=path-exclude={p}" for p in LEAVE_OUT]
    call("mmdebstrap", "--variant=essential", f"--include={','.join(PACKAGES)}",
         '--aptopt=APT::Install-Recommends "false"', *options, "bookworm", f"{work}/root",
         SOURCES if os.path.exists(SOURCES) else DEFAULT_SOURCE)
    for d in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(f"{work}/root/{d}")
    call("mkfs.erofs", "-zlz4", "--quiet", f"{work}/base.erofs", f"{work}/root")
    shutil.rmtree(f"{work}/root")


def base(cache):
    """Path of base.erofs; built if it is not there. Several may ask at once."""
    key = hashlib.sha256(repr((PACKAGES, LEAVE_OUT)).encode()).hexdigest()[:16]
    place = f"{cache}/l1/{key}"
    os.makedirs(f"{cache}/l1", exist_ok=True)
    with open(f"{cache}/l1/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            if os.geteuid() != 0:
                raise Skip("building the L1 image needs root")
            with tempfile.TemporaryDirectory(prefix="new-", dir=f"{cache}/l1") as work:
                build_base(work)
                os.chmod(work, 0o755)
                os.mkdir(place)
                os.rename(f"{work}/base.erofs", f"{place}/base.erofs")
    return f"{place}/base.erofs"


def module_order(folder):
    order = []

    def add(name):
        names = (name, name.replace("_", "-"), name.replace("-", "_"))
        path = next((p for p in (f"{folder}/{n}.ko" for n in names) if os.path.exists(p)), None)
        if path is None:  # built into the kernel
            return
        if path in order:
            return
        info = subprocess.run(["objcopy", "-O", "binary", "--only-section=.modinfo", path,
                               "/dev/stdout"], check=True, capture_output=True).stdout
        for field in info.split(b"\0"):
            if field.startswith(b"depends="):
                for dep in filter(None, field[8:].decode().split(",")):
                    add(dep)
        order.append(path)

    for m in MODULES:
        add(m)
    return order


def build_initramfs(work, guest):
    tree = f"{work}/initramfs.tree"
    for d in ("bin", "dev", "proc", "sys", "modules"):
        os.makedirs(f"{tree}/{d}")
    shutil.copy("/bin/busybox", f"{tree}/bin/busybox")
    order = module_order(f"{guest}/modules")
    for path in order:
        call("objcopy", "--strip-debug", path, f"{tree}/modules/{os.path.basename(path)}")
    with open(f"{tree}/modules/order", "w") as f:
        f.write("".join(os.path.basename(p) + "\n" for p in order))
    with open(f"{tree}/init", "w") as f:
        f.write(INIT)
    os.chmod(f"{tree}/init", 0o755)
    call("sh", "-c", f"cd {tree} && find . | cpio -o -H newc --quiet -R 0:0 >../initramfs")


class Machine:
    """One run. files: {path below /sm: source}; steps: [(name, seconds, command)]."""

    def __init__(self, cache, guest, files, steps, log):
        for tool in TOOLS:
            if not shutil.which(tool):
                raise Skip(f"no {tool}")
        self.base = base(cache)
        self.guest, self.files, self.steps, self.log = guest, files, steps, log
        self.results = {}  # name: (status, seconds)

    @contextlib.contextmanager
    def built(self):
        with tempfile.TemporaryDirectory(prefix="sm-l1-") as work:
            build_initramfs(work, self.guest)
            tree = f"{work}/tests/sm"
            for name, source in self.files.items():
                os.makedirs(os.path.dirname(f"{tree}/{name}"), exist_ok=True)
                if os.path.isdir(source):
                    shutil.copytree(source, f"{tree}/{name}", symlinks=True)
                else:
                    shutil.copy(source, f"{tree}/{name}")
            with open(f"{tree}/steps", "w") as f:
                f.write("".join(f"{n} {s} {c}\n" for n, s, c in self.steps))
            call("mkfs.erofs", "--quiet", f"{work}/tests.erofs", f"{work}/tests")
            yield work

    def run(self, echo):
        """Fill results. echo(line) sees each line as it comes. Failed: the machine did not get to its
        end."""
        self.results = {}
        with self.built() as work:
            argv = [*QEMU, "-kernel", f"{self.guest}/vmlinuz", "-initrd", f"{work}/initramfs",
                    "-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
            for n, path in enumerate((self.base, f"{work}/tests.erofs")):
                argv += ["-drive", f"if=none,id=d{n},file={path},format=raw,readonly=on",
                         "-device", f"virtio-blk-pci,drive=d{n}"]
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
            try:
                self.follow(p, echo)
            finally:
                p.kill()
                p.wait()
                p.stdout.close()

    def follow(self, p, echo):
        allowed = {name: seconds for name, seconds, _ in self.steps}
        selector = selectors.DefaultSelector()
        selector.register(p.stdout, selectors.EVENT_READ)
        rest, begun, done, step = b"", 0.0, False, "its start"
        end = time.monotonic() + PATIENCE
        with open(self.log, "wb") as log:
            while True:
                if not selector.select(max(0, end - time.monotonic())):
                    raise Frozen(f"the L1 machine stopped in {step}")
                data = os.read(p.stdout.fileno(), 65536)
                log.write(data)
                log.flush()
                *lines, rest = (rest + data).split(b"\n")
                for raw in lines:
                    line = raw.decode(errors="replace").rstrip("\r")
                    words = line.split()
                    if words[:2] == [MARK, "begin"]:
                        begun, step = time.monotonic(), words[2]
                        end = begun + allowed[step] + PATIENCE
                    elif words[:2] == [MARK, "end"]:
                        self.results[words[2]] = (int(words[3]), time.monotonic() - begun)
                        end = time.monotonic() + PATIENCE
                    done |= words[:2] == [MARK, "done"]
                    echo(line)
                if not data:
                    break
        if not done:
            raise Failed("the L1 machine ended before its last step")
