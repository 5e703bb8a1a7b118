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
import socket
import subprocess
import tempfile
import time

PATIENCE = 90  # seconds for what L1 does between steps, and for a step to be ended by L1
BEAT = 3  # seconds between two signs of life of L1
PULSELESS = 45  # seconds without one, and L1 is frozen; its boot gives none
TRIES = 3  # of an L1 that freezes; a step that fails is not tried again
PACKAGES = ["python3", "busybox-static", "libcmocka0", "libarchive13", "libjansson4", "libssl3",
            "libzstd1", "zlib1g", "liblzma5", "libcurl4", "libslirp0", "libseccomp2", "util-linux", "mount", "zstd",
            "qemu-system-x86", "e2fsprogs"]
LEAVE_OUT = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*",
             "/var/cache/apt/*", "/var/lib/apt/lists/*"]
SOURCES = "/etc/apt/sources.list.d/debian.sources"
DEFAULT_SOURCE = "deb http://deb.debian.org/debian bookworm main"
MODULES = ["virtio_pci", "virtio_blk", "erofs", "overlay", "irqbypass", "kvm", "kvm-amd"]
TOOLS = ["qemu-system-x86_64", "mmdebstrap", "mkfs.erofs", "cpio", "objcopy"]
# No XSAVE: QEMU's SVM does not let a hypervisor see a guest's XSETBV, so KVM would not know the guest's
# XCR0. Guests then get CPU model v2.
CPU = "EPYC,+svm,+npt,-xsave,-xsaveopt,-xgetbv1,-avx,-avx2,-fma,-f16c"
QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel",
        "tcg,thread=multi", "-smp", "2", "-m", "2000", "-nodefaults", "-no-reboot", "-display",
        "none", "-serial", "stdio"]
NO_NETWORK = re.compile(r"Could not resolve|Could not connect|Temporary failure|Failed to fetch|"
                        r"Connection (refused|timed out)|Network is unreachable|Unable to connect")
MARK = "@@l1"
# A VM in L1 for as long as it runs. With the first VM and the first vCPU, and when the last is gone, KVM switches
# static keys: Linux rewrites its own code, with a breakpoint in it meanwhile that other processors may run into. Now
# and then one of QEMU 7.2's translating threads never sees that the breakpoint is gone, and spins in its handler.
KEEPER = """import fcntl, os, signal
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xae01, 0)
fcntl.ioctl(vm, 0xae60, 0)
fcntl.ioctl(vm, 0xae41, 0)
signal.pause()"""
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
while echo; do sleep {BEAT}; done >/dev/ttyS1 &
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
export SUPERMACHINE_HOME=/tmp/store SM_TEST_STORE=/tmp/store # one for all steps: each has RAM of VMs, and is RAM
dmesg -n 1 # KVM tells of each MSR that it does not know
chroot /root python3 -c '{KEEPER}' >/dev/null 2>&1 &
echo "{MARK} ready"
while read -r name seconds command; do
    echo "{MARK} begin $name"
    timeout -s KILL "$seconds" chroot /root sh -c "cd /sm; $command" </dev/null 2>&1
    status=$?
    [ $status = 0 ] || dmesg | grep -i -A3 "out of memory" | tail -n 8
    echo "{MARK} end $name $status"
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


class Pulse:
    """L1's signs of life: bytes on its second serial port, which QEMU writes to a file. And what can still be
    learnt of one that gives none."""

    def __init__(self, work):
        self.path, self.monitor = f"{work}/pulse", f"{work}/monitor"
        self.options = ["-serial", f"file:{self.path}", "-monitor", f"unix:{self.monitor},server=on,wait=off"]
        self.seen, self.since = 0, time.monotonic()

    def stopped(self):
        """Seconds since the last sign, when those are too many; else 0."""
        size = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        if size != self.seen:
            self.seen, self.since = size, time.monotonic()
        quiet = time.monotonic() - self.since
        return int(quiet) if quiet > PULSELESS else 0

    def registers(self):
        """What QEMU's monitor says of the processors; None if QEMU does not answer either."""
        text = b""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(self.monitor)
            s.sendall(b"info registers -a\n")
            while text.count(b"(qemu)") < 2 and (data := s.recv(65536)):
                text += data
        return text.decode(errors="replace") if text.count(b"RIP=") else None

    def autopsy(self):
        """(a line, all of it): where each processor is, a second apart."""
        both = []
        for pause in (1, 0):
            text = self.registers()
            if text is None:
                return "QEMU's own monitor does not answer", ""
            both.append((re.findall(r"RIP=(\w+)", text), re.findall(r"HLT=(\d)", text), text))
            time.sleep(pause)
        cpus = [f"CPU {n} {'halted at' if halted == '1' else 'stuck at' if was == rip else 'runs at'} {rip}"
                for n, (was, rip, halted) in enumerate(zip(both[0][0], both[1][0], both[1][1]))]
        return ", ".join(cpus), both[0][2] + both[1][2]


class Machine:
    """One machine. files: {path below /sm: source}; steps: [(name, seconds, command)], which are independent of
    each other; disks: files for L1 to write, /dev/vdc and on."""

    def __init__(self, cache, guest, files, steps, log, cpu=CPU, disks=()):
        for tool in TOOLS:
            if not shutil.which(tool):
                raise Skip(f"no {tool}")
        self.base = base(cache)
        self.guest, self.files, self.steps, self.log = guest, files, steps, log
        self.cpu, self.disks = cpu, disks
        self.results = {}  # name: (status, seconds)
        self.frozen = 0    # times that it was

    @contextlib.contextmanager
    def built(self, steps):
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
                f.write("".join(f"{n} {s} {c}\n" for n, s, c in steps))
            call("mkfs.erofs", "--quiet", f"{work}/tests.erofs", f"{work}/tests")
            yield work

    def run(self, echo):
        """Fill results. echo(line) sees each line as it comes. An L1 that freezes is started again for the steps
        that it had not done, which is told in a line. Failed: it did not get to its end."""
        self.results, self.frozen = {}, 0
        open(self.log, "wb").close()
        while True:
            try:
                return self.run_once([s for s in self.steps if s[0] not in self.results], echo)
            except Frozen as e:
                self.frozen += 1
                if self.frozen == TRIES:
                    raise
                print(f"{e}; starting it again", flush=True)

    def run_once(self, steps, echo):
        with self.built(steps) as work:
            pulse = Pulse(work)
            argv = [*QEMU, *pulse.options, "-cpu", self.cpu, "-kernel", f"{self.guest}/vmlinuz",
                    "-initrd", f"{work}/initramfs",
                    "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=unstable"]
            drives = [(self.base, "on"), (f"{work}/tests.erofs", "on"), *((path, "off") for path in self.disks)]
            for n, (path, read_only) in enumerate(drives):
                argv += ["-drive", f"if=none,id=d{n},file={path},format=raw,readonly={read_only}",
                         "-device", f"virtio-blk-pci,drive=d{n}"]
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
            try:
                self.follow(p, steps, pulse, echo)
            finally:
                p.kill()
                p.wait()
                p.stdout.close()

    def frozen_in(self, step, seconds, pulse, log):
        where, registers = pulse.autopsy()
        log.write(f"\n{MARK} frozen in {step}: {where}\n{registers}\n".encode())
        raise Frozen(f"the L1 machine froze in {step} ({seconds} s without a sign of life; {where})")

    def follow(self, p, steps, pulse, echo):
        allowed = {name: seconds for name, seconds, _ in steps}
        selector = selectors.DefaultSelector()
        selector.register(p.stdout, selectors.EVENT_READ)
        rest, begun, done, step = b"", 0.0, False, "its start"
        start = said = time.monotonic()
        end = start + PATIENCE
        with open(self.log, "ab") as log:
            while True:
                late = time.monotonic() > end
                if (seconds := pulse.stopped()) or late:
                    log.write(rest)
                    self.frozen_in(step, seconds or int(time.monotonic() - said), pulse, log)
                if not selector.select(1):
                    continue
                said = time.monotonic()
                data = os.read(p.stdout.fileno(), 65536)
                *lines, rest = (rest + data).split(b"\n")
                for raw in lines:
                    line = raw.decode(errors="replace").rstrip("\r")
                    log.write(f"{said - start:7.1f} {line}\n".encode())
                    words = line.split()
                    if words[:2] == [MARK, "begin"]:
                        begun, step = time.monotonic(), words[2]
                        end = begun + allowed[step] + PATIENCE
                    elif words[:2] == [MARK, "end"]:
                        self.results[words[2]] = (int(words[3]), time.monotonic() - begun)
                        end = time.monotonic() + PATIENCE
                    done |= words[:2] == [MARK, "done"]
                    echo(line)
                log.flush()
                if not data:
                    log.write(rest)
                    break
        if not done:
            raise Failed("the L1 machine ended before its last step")
