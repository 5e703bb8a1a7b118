#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The KVM engine inside the L1 machine (machine.py): check_kvm.py BUILD [--suite smoke|quick|long] [--only STEP]...

smoke: the unit tests of src/cpu/kvm, with small guests of their own. quick, what CI runs: also a hostile kernel,
4 vCPUs, three programs of the guest suite, most of tests/cli, and snapshots that move between the engines
(check_moves.py). long: all of them. Every VM in L1 runs with --engine kvm. The console, which has everything that
L1 and its guests printed, is kept in BUILD/l1-console.log, and is shown from the failed step on.
Exit: 0 passed, 1 failed, 77 skipped. The last line sums up."""
import argparse
import glob
import os
import re
import sys

import check_moves
import machine

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNITS = ["kvm", "kvm_guest"]
# Of these files of tests/cli the quick suite runs all but what is listed, of the others below what is listed alone.
CLI = {
    "run": ["Commands.test_100_mb", "Commands.test_much_output", "Commands.test_slow_reader_loses_nothing"],
    "terminal": [],
    "refusal": [],
}
CLI_ALONE = {
    "named": ["Life.test_life", "Snapshots.test_snapshot", "Forks.test_clones", "Files.test_in_and_out"],
    "volume": ["Volumes.test_kept"],
}
SMOKE = ["device", "unit_kvm", "unit_kvm_guest", "doctor"]
# Programs of tests/guest/programs.
SUITE = ["fpu", "segments", "memory"]
TAIL = 200


def tests_of(group):
    """CLASS.NAME of each test in a file of tests/cli."""
    with open(f"{SOURCE}/tests/cli/{group}_test.py") as f:
        classes = re.findall(r"^class (\w+)\(.*?\n(.*?)(?=^\S|\Z)", f.read(), re.M | re.S)
    return [f"{c}.{t}" for c, body in classes for t in re.findall(r"^    def (test_\w+)", body, re.M)]


def quick_tests(group):
    return CLI_ALONE.get(group) or [n for n in tests_of(group) if n not in CLI[group]]


def left_out():
    """What the quick suite does not run of tests/cli, a line for each file."""
    for group in (*CLI, *CLI_ALONE):
        every, chosen = tests_of(group), quick_tests(group)
        if n := len(set(every) - set(chosen)):
            yield f"cli_{group}: {n} of {len(every)} tests: minutes for a nested guest: SUITE=long"


def steps(suite):
    yield "device", 10, "test -c /dev/kvm && grep -qw svm /proc/cpuinfo"
    for name in UNITS:
        yield f"unit_{name}", 120, f"out/src/cpu/{name}_test"
    # Without the opcodes: one of them makes QEMU 7.2's own translator abort ("tcg fatal error").
    yield "ring0", 600, "out/tests/guest/ring0_test kvm numbers"
    yield "doctor", 60, "out/cli/supermachine doctor"
    yield "vcpus", 120, \
        "test $(out/cli/supermachine run --engine kvm --vcpus 4 busybox nproc) = 4"
    # The same programs in L1 itself and in a guest of it.
    chosen = SUITE if suite == "quick" else []
    yield "guest_suite", 400 if chosen else 1500, "python3 tests/guest/suite.py run --engine kvm " \
        f"--vcpus 2 out/cli/supermachine out/tests/guest/suite {' '.join(chosen)}"
    env = "SM_SOURCE_DIR=/sm SM_BUILD_DIR=/sm/out SM_TEST_ENGINE=kvm"
    for group in (*CLI, *CLI_ALONE):
        chosen = quick_tests(group) if suite == "quick" else []
        yield f"cli_{group}", 600 if chosen else 1500, \
            f"{env} python3 tests/cli/{group}_test.py /sm/out/cli/supermachine -v {' '.join(chosen)}"


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
    for folder in ("tests/cli", "tests/image", "tests/l1"):
        yield folder, f"{SOURCE}/{folder}"


def show_console(run):
    """From the first failed step on."""
    failed = [n for n, (status, _) in run.results.items() if status != 0]
    with open(run.log, errors="replace") as f:
        lines = f.read().splitlines()
    start = next((i for i, l in enumerate(lines) if failed and
                  l.startswith(f"{machine.MARK} begin {failed[0]}")), len(lines) - TAIL)
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
    try:
        results, frozen = in_l1(build, chosen, echo) if chosen else ({}, 0)
        skipped = list(left_out()) if args.suite == "quick" and not only else []
        if not only or "moves" in only:
            moves = check_moves.Moves(build, dict(files(build)), echo)
            moves.run()
            results.update(moves.results)
            frozen += moves.frozen
            skipped += moves.skipped
        return report(results, frozen, skipped)
    except machine.Skip as e:
        print(f"SKIP: check-kvm: {e}")
        print("0 passed, 0 failed, 1 skipped")
        return 77


if __name__ == "__main__":
    sys.exit(main())
