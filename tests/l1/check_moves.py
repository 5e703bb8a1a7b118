# SPDX-License-Identifier: Apache-2.0
"""Snapshots that go from engine to engine as files: soft on this host, kvm inside L1. moves.py does each leg, here
and there.

  v2   soft -> kvm -> soft, and kvm -> soft of a VM that was booted in L1
  v3   refused, with its reason, by an L1 without AVX; soft -> kvm -> soft in one that has it

Into L1 by its tests' disk; out of it as tars on a disk that it writes."""
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

import machine

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [f"{SOURCE}/tests/image", f"{SOURCE}/tests/images"]
import image_cache
import images
import real_images_build

TAIL = 300
LEG_S = 400  # for a leg inside L1
DISK_BYTES = 512 << 20  # for a snapshot that comes out
# QEMU 7.2 does not let a hypervisor see its guest's XSETBV: a guest cannot switch AVX on, but one that comes with
# AVX switched on goes on with it.
NO_BOOT = "a guest of model v3 that boots on kvm: QEMU 7.2 does not pass XSETBV on to L1; v3_to_kvm has one that comes booted"
AVX_CPU = machine.CPU.partition(",-xsave,")[0]
CPUS = {"v2": machine.CPU, "v3": AVX_CPU}
SUITE = {"v2": ["fpu"], "v3": ["fpu", "avx"]}
HOME = "SUPERMACHINE_HOME=/sm/home"
MOVES = f"{HOME} python3 tests/l1/moves.py"
EXE = "/sm/out/cli/supermachine"
REASON = "CPU model v3 needs what this processor lacks: .*avx"


def busybox_layer():
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as t, open("/bin/busybox", "rb") as f:
        program = tarfile.TarInfo("bin/busybox")
        program.mode, program.size = 0o755, os.fstat(f.fileno()).st_size
        t.addfile(program, f)
        for name in ("sh", "cat", "chmod", "dmesg", "setsid", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            t.addfile(link)
    return raw.getvalue()


def make_image(where):
    """An OCI layout with Python in it; where that cannot be built one of busybox, and why."""
    try:
        source = real_images_build.images(SOURCE)
    except image_cache.Skip as e:
        data = busybox_layer()
        layout = images.Layout(where)
        layout.add(layout.image([data], media=images.TAR, conf=images.config([data])))
        return str(e)
    machine.call("skopeo", "copy", "-q", f"oci:{source}/oci:python3", f"oci:{where}:python3")
    return None


def inside(model):
    """(name, seconds, command) of each leg in L1. One that makes a snapshot puts it on a disk of its own."""
    tar = "/bin/tar -C /tmp -Scf"  # not the shell's own, which is busybox's
    programs = " ".join(f"out/tests/guest/suite/{name}" for name in SUITE[model])
    yield f"{model}_to_kvm", LEG_S, \
        f"{MOVES} go_on {EXE} kvm /sm/moved/{model} /tmp/next {programs} && {tar} /dev/vdc next"
    if model == "v2":
        yield "v2_of_kvm", LEG_S, \
            f"{MOVES} start {EXE} kvm v2 /tmp/made oci:/sm/image out/tests/l1/carry && {tar} /dev/vdd made"
        yield "v3_refused", 60, f"! {HOME} {EXE} run --engine kvm snapshot:/sm/moved/v3 true 2>/tmp/why && " \
            f"cat /tmp/why && grep -q '{REASON}' /tmp/why"


class Moves:
    """results: {name: (status or why it was skipped, seconds)}, as of machine.Machine."""

    def __init__(self, build, files, echo):
        self.build, self.files, self.echo = build, files, echo
        self.exe = f"{build}/cli/supermachine"
        self.results, self.skipped, self.frozen = {}, [NO_BOOT], 0
        self.log = f"{build}/l1-moves.log"

    def leg(self, name, *argv):
        """One on this host."""
        begin = time.monotonic()
        p = subprocess.run([sys.executable, "-B", f"{HERE}/moves.py", *argv], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                           env=dict(os.environ, SUPERMACHINE_HOME=f"{self.work}/home"))
        self.say(p.stdout.rstrip("\n"))
        self.results[name] = (p.returncode, time.monotonic() - begin)
        return p.returncode == 0

    def say(self, text):
        with open(self.log, "a") as f:
            f.write(text + "\n")
        self.echo(text)

    def take(self, disk, name, folder):
        """What came out of L1 goes on here."""
        p = subprocess.run(["tar", "-C", self.work, "-xSf", disk], capture_output=True, text=True)
        self.say(p.stderr)
        self.leg(f"{name}_to_soft", "go_on", self.exe, "soft", f"{self.work}/{folder}", "-")

    def in_l1(self, model):
        out = {f"{model}_to_kvm": "next", "v2_of_kvm": "made"}
        disks = [f"{self.work}/{folder}.disk" for folder in out.values()]
        for path in disks:
            with open(path, "wb") as f:
                f.truncate(DISK_BYTES)
        files = dict(self.files)
        files.update((d, f"{self.work}/{d}") for d in ("home", "moved", "image"))
        l1 = machine.Machine(f"{SOURCE}/out/cache", f"{self.build}/guest", files, list(inside(model)),
                             f"{self.build}/l1-moves-{model}.log", CPUS[model], disks)
        try:
            l1.run(self.say)
        except machine.Failed as e:
            print(f"FAILED: {e}")
        self.frozen += l1.frozen
        self.results.update((name, l1.results.get(name, ("did not run", 0.0))) for name, _, _ in l1.steps)
        for disk, (name, folder) in zip(disks, out.items()):
            if l1.results.get(name, (1, 0))[0] == 0:
                self.take(disk, name, folder)
            shutil.rmtree(f"{self.work}/{folder}", ignore_errors=True)

    def run(self):
        with tempfile.TemporaryDirectory(prefix="sm-moves-") as self.work:
            open(self.log, "w").close()
            if why := make_image(f"{self.work}/image"):
                self.skipped.append(f"a Python program that moves: {why}")
            os.mkdir(f"{self.work}/moved")
            made = [self.leg(f"{model}_from_soft", "start", self.exe, "soft", model, f"{self.work}/moved/{model}",
                             f"oci:{self.work}/image", f"{self.build}/tests/l1/carry") for model in CPUS]
            for model in CPUS if all(made) else ():
                self.in_l1(model)
        if any(status for status, _ in self.results.values()):
            print(f"--- what moved ({self.log}) ---")
            with open(self.log) as f:
                print("".join(f.readlines()[-TAIL:]) + "---")
