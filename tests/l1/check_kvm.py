#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The KVM engine inside the L1 machine (machine.py): check_kvm.py BUILD [--suite smoke|quick|long] [--only STEP]...

smoke: the unit tests of src/cpu/kvm, with small guests of their own. quick, what CI runs: also a hostile kernel,
4 vCPUs, three programs of the guest suite, some of tests/cli, and snapshots that move between the engines
(check_moves.py). long: all of them. Every VM in L1 runs with --engine kvm. The console, which has everything that
L1 and its guests printed, is kept in BUILD/l1-console.log, and is shown from the failed step on.
Exit: 0 passed, 1 failed, 77 skipped. The last line sums up."""
import argparse
import concurrent.futures
import glob
import os
import re
import sys

import check_moves
import machine

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNITS = ["kvm", "kvm_guest"]
# What the quick suite runs of tests/cli: what starts, feeds, interrupts, moves and ends a VM. The rest is about the
# program or the agent, and each VM takes seconds in L1.
CLI = {
    "run": ["Commands.test_hello", "Commands.test_streams_and_status", "Commands.test_cpu_v2",
            "Commands.test_boot_without_searches", "Commands.test_stdin", "Commands.test_signal_status",
            "Commands.test_memory", "Ends.test_timeout", "Ends.test_kill_pid_1", "Ends.test_reboot",
            "Ends.test_poweroff", "Ends.test_panic", "Ends.test_kill_leaves_nothing", "OtherCommands.test_doctor"],
    "terminal": ["Signals.test_second_ends_the_vm", "Signals.test_while_booting", "Terminals.test_ctrl_c_once"],
    "refusal": ["Flags.test_engine", "Flags.test_vcpus", "Flags.test_cpu", "Engines.test_kvm"],
    "named": ["Snapshots.test_snapshot", "Forks.test_clones"],
    "volume": ["Volumes.test_kept"],
    "folder": ["Folders.test_posix", "Folders.test_read_only"],
}
ARGUMENTS = {"folder": "out/tests/cli/folder_guest"}  # at the end of the command line
PORTS = 61
SMOKE = ["device", "unit_kvm", "unit_kvm_guest", "doctor"]
# Programs of tests/guest/programs.
SUITE = ["fpu", "segments", "memory"]
TAIL = 200


def tests_of(group):
    """CLASS.NAME of each test in a file of tests/cli."""
    with open(f"{SOURCE}/tests/cli/{group}_test.py") as f:
        classes = re.findall(r"^class (\w+)\(.*?\n(.*?)(?=^\S|\Z)", f.read(), re.M | re.S)
    return [f"{c}.{t}" for c, body in classes for t in re.findall(r"^    def (test_\w+)", body, re.M)]


def left_out():
    """What the quick suite does not run, a line for each step."""
    yield f"ring0: of the I/O ports from 0x1000 all but one in {PORTS}: 100 s in L1: SUITE=long"
    for group, chosen in CLI.items():
        every = tests_of(group)
        if n := len(set(every) - set(chosen)):
            yield f"cli_{group}: {n} of {len(every)} tests: of the program and the agent, not of KVM; minutes in L1: SUITE=long"


def steps(suite):
    yield "device", 10, "test -c /dev/kvm && grep -qw svm /proc/cpuinfo"
    for name in UNITS:
        yield f"unit_{name}", 120, f"out/src/cpu/{name}_test"
    # Without the opcodes: one of them makes QEMU 7.2's own translator abort ("tcg fatal error").
    yield "ring0", 600, f"out/tests/guest/ring0_test kvm numbers {PORTS if suite == 'quick' else 1}"
    yield "doctor", 60, "out/cli/supermachine doctor"
    yield "vcpus", 120, \
        "test $(out/cli/supermachine run --engine kvm --vcpus 4 busybox nproc) = 4"
    # The same programs in L1 itself and in a guest of it.
    chosen = SUITE if suite == "quick" else []
    yield "guest_suite", 400 if chosen else 1500, "python3 tests/guest/suite.py run --engine kvm " \
        f"--vcpus 2 out/cli/supermachine out/tests/guest/suite {' '.join(chosen)}"
    env = "SM_SOURCE_DIR=/sm SM_BUILD_DIR=/sm/out SM_TEST_ENGINE=kvm"
    for group, chosen in CLI.items():
        chosen = chosen if suite == "quick" else []
        yield f"cli_{group}", 600 if chosen else 1500, \
            f"{env} python3 tests/cli/{group}_test.py /sm/out/cli/supermachine -v {' '.join(chosen)} " + \
            ARGUMENTS.get(group, "")


def files(build):
    yield "out/cli/supermachine", f"{build}/cli/supermachine"
    yield "out/src/worker/supermachine-vmm", f"{build}/src/worker/supermachine-vmm"
    yield "out/guest/vmlinuz", f"{build}/guest/vmlinuz"
    yield "out/guest/initramfs.cpio", f"{build}/guest/initramfs.cpio"
    yield "out/images/busybox", f"{build}/images/busybox"
    for name in UNITS:
        yield f"out/src/cpu/{name}_test", f"{build}/src/cpu/{name}_test"
    yield "out/tests/guest/ring0_test", f"{build}/tests/guest/ring0_test"
    for source in glob.glob(f"{SOURCE}/tests/guest/programs/*.c"):
        name = os.path.basename(source)[:-2]
        yield f"out/tests/guest/suite/{name}", f"{build}/tests/guest/{name}"
    for name in ("suite.py", "all.sh"):
        yield f"tests/guest/{name}", f"{SOURCE}/tests/guest/{name}"
    yield "out/tests/l1/carry", f"{build}/tests/l1/carry"
    yield "out/tests/cli/folder_guest", f"{build}/tests/cli/folder_guest"
    for folder in ("src/agent", "tests/cli", "tests/image", "tests/l1"):
        yield folder, f"{SOURCE}/{folder}"


def show_console(run):
    """From the first failed step on."""
    failed = [n for n, (status, _) in run.results.items() if status != 0]
    with open(run.log, errors="replace") as f:
        lines = f.read().splitlines()
    start = next((i for i, l in enumerate(lines) if failed and
                  l.endswith(f"{machine.MARK} begin {failed[0]}")), len(lines) - TAIL)
    print(f"--- the console of L1 and its guests (whole: {run.log}) ---")
    print("\n".join(lines[max(0, start):][:TAIL * 5]))
    print("---")


def in_l1(build, chosen, echo):
    """{step: (status, seconds)}, and how often L1 froze."""
    run = machine.Machine(f"{SOURCE}/out/cache", f"{build}/guest", dict(files(build)), chosen,
                          f"{build}/l1-console.log")
    try:
        run.run(echo)
    except machine.Failed as e:
        print(f"FAILED: {e}")
    results = {name: run.results.get(name, ("did not run", 0.0)) for name, _, _ in chosen}
    if any(status for status, _ in results.values()):
        show_console(run)
    return results, run.frozen


def report(results, frozen, skipped):
    for name, (status, seconds) in results.items():
        print(f"{name:20} {f'FAILED ({status})' if status else 'ok':22} {seconds:6.1f} s")
    for reason in skipped:
        print(f"SKIP: {reason}")
    if frozen:
        print(f"L1 froze {frozen} times, and was started again")
    failed = sum(1 for status, _ in results.values() if status)
    print(f"{len(results) - failed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--suite", choices=["smoke", "quick", "long"], default="quick")
    parser.add_argument("--only", action="append")
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    only = args.only or (SMOKE if args.suite == "smoke" else None)
    chosen = [s for s in steps(args.suite) if not only or s[0] in only]
    echo = print if args.v else lambda line: None
    moves = check_moves.Moves(build, dict(files(build)), echo)
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:  # L1 keeps little more than one processor busy
            moved = pool.submit(moves.run) if not only or "moves" in only else None
            results, frozen = in_l1(build, chosen, echo) if chosen else ({}, 0)
        if moved:
            moved.result()
        skipped = list(left_out()) if args.suite == "quick" and not only else []
        return report({**results, **moves.results}, frozen + moves.frozen, skipped + moves.skipped)
    except machine.Skip as e:
        print(f"SKIP: check-kvm: {e}")
        print("0 passed, 0 failed, 1 skipped")
        return 77


if __name__ == "__main__":
    sys.exit(main())
