#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Inside L1: boot the same kernel and initramfs with ours and with QEMU, both on KVM, until the agent's first
line, and say what it took: bench_inside.py ROUNDS CMDLINE. A line per run:
  bench SYSTEM SECONDS CPU_SECONDS EXITS IO_EXITS MMIO_EXITS HALT_EXITS IRQ_EXITS
CPU_SECONDS: of the monitor's process, without the guest's own time."""
import glob
import os
import signal
import subprocess
import sys
import threading
import time

READY = b"selftest: kernel"
STATS = "/sys/kernel/debug/kvm"
COUNTERS = ("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits")
LIMIT_S = 120  # for one boot


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    user, system, guest = int(fields[11]), int(fields[12]), int(fields[40])
    return (user + system - guest) / os.sysconf("SC_CLK_TCK")


def counters(pid):
    folders = glob.glob(f"{STATS}/{pid}-*")
    return [sum(int(open(f"{d}/{name}").read()) for d in folders) for name in COUNTERS]


def measure(system, argv):
    start = time.monotonic()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    limit = threading.Timer(LIMIT_S, p.kill)  # which ends its output
    limit.start()
    said = []
    try:
        for line in p.stdout:
            said.append(line.decode(errors="replace"))
            if READY in line:
                seconds = time.monotonic() - start
                os.kill(p.pid, signal.SIGSTOP)  # or it goes on, and off, while we read
                print("bench", system, f"{seconds:.3f}", f"{cpu_seconds(p.pid):.2f}",
                      *counters(p.pid), flush=True)
                return
        print("".join(said[-20:]))
        sys.exit(f"{system}: the agent's line did not come within {LIMIT_S} s")
    finally:
        limit.cancel()
        p.kill()
        p.wait()


def main():
    rounds, cmdline = int(sys.argv[1]), sys.argv[2]
    if not os.path.isdir(STATS):
        subprocess.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], check=True)
    # What tools/run-bench gives QEMU, with KVM.
    qemu = ["qemu-system-x86_64", "-M",
            "microvm,acpi=on,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off", "-accel", "kvm",
            "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config", "-no-reboot", "-display",
            "none", "-serial", "stdio", "-device", "virtio-rng-device", "-kernel",
            "out/guest/vmlinuz", "-initrd", "out/guest/initramfs.cpio", "-append",
            f"{cmdline} sm.selftest=1"]
    ours = ["out/tests/vm/boot_tool", "--engine", "kvm", "--memory", "256", "--append",
            "sm.selftest=1", "out/guest/vmlinuz", "out/guest/initramfs.cpio"]
    both = [("ours", ours), ("qemu", qemu)]
    for _ in range(rounds):
        for system, argv in both:
            measure(system, argv)
        both.reverse()


main()
