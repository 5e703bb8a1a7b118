#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The KVM engine inside the L1 machine (machine.py): check_kvm.py BUILD [--suite smoke|quick|long] [--only STEP]...

smoke, what CI runs: the unit tests of src/cpu/kvm, with small guests of their own. quick: also a hostile kernel,
4 vCPUs, the guest suite, and the black-box tests that say the most. long: all of tests/cli. Every VM in it runs with --engine kvm. The console, which has everything that L1 and its guests
printed, is kept in BUILD/l1-console.log, and is shown from the failed step on.
Exit: 0 passed, 1 failed, 77 skipped. The last line sums up."""
import argparse
import glob
import os
import sys

import machine

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNITS = ["kvm", "kvm_guest"]
# Files of tests/cli, and what of them a few minutes are enough for: each boot takes some 5 s.
CLI = {
    "run": ["Commands.test_streams_and_status", "Images.test_config",
            "Ends.test_timeout", "Ends.test_reboot", "Ends.test_panic",
            "OtherCommands.test_doctor"],
    "refusal": ["Engines", "Flags.test_engine"],
    "terminal": ["Signals.test_second_ends_the_vm", "Terminals.test_ctrl_c_once"],
}
SMOKE = ["device", "unit_kvm", "unit_kvm_guest", "doctor"]
# Programs of tests/guest/programs.
SUITE = ["fpu", "segments", "memory"]
TAIL = 200
TRIES = 3  # of an L1 that freezes; a step that fails is not tried again


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
    for group, chosen in CLI.items():
        chosen = chosen if suite == "quick" else []
        yield f"cli_{group}", 300 if chosen else 1500, \
            f"{env} python3 tests/cli/{group}_test.py /sm/out/cli/supermachine {' '.join(chosen)}"


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
    for folder in ("tests/cli", "tests/image"):
        yield folder, f"{SOURCE}/{folder}"


def report(run, broken):
    failed = [n for n, (status, _) in run.results.items() if status != 0]
    if failed or broken:
        with open(run.log, errors="replace") as f:
            lines = f.read().splitlines()
        first = failed[0] if failed else None
        start = next((i for i, l in enumerate(lines) if first and
                      l.startswith(f"{machine.MARK} begin {first}")), len(lines) - TAIL)
        print(f"--- the console of L1 and its guests (whole: {run.log}) ---")
        print("\n".join(lines[max(0, start):][:TAIL * 5]))
        print("---")
    for name, (status, seconds) in run.results.items():
        print(f"{name:16} {'ok' if status == 0 else f'FAILED ({status})':14} {seconds:6.1f} s")
    missing = [n for n, _, _ in run.steps if n not in run.results]
    for name in missing:
        print(f"{name:16} did not run")
    if broken:
        print(f"FAILED: {broken}")
    bad = len(failed) + len(missing) + (1 if broken and not missing else 0)
    print(f"{len(run.results) - len(failed)} passed, {bad} failed, 0 skipped")
    return 1 if bad else 0


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
    try:
        run = machine.Machine(f"{SOURCE}/out/cache", f"{build}/guest", dict(files(build)), chosen,
                              f"{build}/l1-console.log")
        for left in range(TRIES - 1, -1, -1):
            broken = None
            try:
                run.run(print if args.v else lambda line: None)
            except machine.Frozen as e:
                broken = str(e)
                if left:
                    print(f"{e}; starting it again", flush=True)
                    continue
            except machine.Failed as e:
                broken = str(e)
            break
        return report(run, broken)
    except machine.Skip as e:
        print(f"SKIP: check-kvm: {e}")
        print("0 passed, 0 failed, 1 skipped")
        return 77


if __name__ == "__main__":
    sys.exit(main())
