#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our KVM path beside QEMU's, in the L1 machine: bench_kvm.py BUILD [--rounds N]. Medians; the ratio is ours to
QEMU's. The bar, for what has one: at most 1.00. Exit: 0 if measured (FAIL or not), 1 if not, 77 skipped."""
import argparse
import os
import re
import statistics
import sys

import check_kvm
import machine

ROWS = ("wall until the agent's line, s", "monitor's CPU time, s", "exits", "of these port I/O",
        "MMIO", "halts", "interrupts of L1, by its load")
BARS = 3  # of the rows, the first ones
ENOUGH = 3  # rounds, when a loaded machine did not get through all in time
LIMIT_S = 60  # for each of two runs a round, in all: bench_inside.py has its own for one


def base_cmdline():
    with open(f"{check_kvm.SOURCE}/src/vm/vm.c") as f:
        text = re.search(r"base_cmdline\[\] =(.*?);", f.read(), re.S).group(1)
    return "".join(re.findall(r'"([^"]*)"', text))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    files = dict(check_kvm.files(build))
    files["out/tests/vm/boot_tool"] = f"{build}/tests/vm/boot_tool"
    files["tests/l1/bench_inside.py"] = f"{check_kvm.SOURCE}/tests/l1/bench_inside.py"
    command = f"python3 tests/l1/bench_inside.py {args.rounds} '{base_cmdline()}'"
    found = {"ours": [], "qemu": []}
    shown = []

    def line(text):
        shown.append(text)
        words = text.split()
        if words[:2] == [machine.MARK, "begin"]:  # again, after a freeze
            found.update(ours=[], qemu=[])
        if words[:1] == ["bench"] and len(words) == 2 + len(ROWS):
            found[words[1]].append([float(w) for w in words[2:]])

    try:
        machine.Machine(f"{check_kvm.SOURCE}/out/cache", f"{build}/guest", files,
                        [("bench", 2 * LIMIT_S * args.rounds, command)], f"{build}/l1-bench.log").run(line)
    except machine.Skip as e:
        print(f"SKIP: bench-kvm: {e}")
        return 77
    except machine.Failed as e:
        print(f"FAILED: {e}")
    if any(len(v) < min(args.rounds, ENOUGH) for v in found.values()):
        print("\n".join(shown[-40:]))
        return 1
    rounds = min(len(v) for v in found.values())
    print(f"{f'inside L1, -accel kvm, {rounds} rounds':32} {'supermachine':>14} {'QEMU microvm':>14} {'ratio':>7}  at most 1.00")
    for i, name in enumerate(ROWS):
        ours, qemu = (statistics.median(r[i] for r in found[s]) for s in ("ours", "qemu"))
        ratio = ours / qemu if qemu else 0
        bar = "PASS" if ours <= qemu else "FAIL"
        print(f"{name:32} {ours:14.6g} {qemu:14.6g} {ratio:7.2f}  {bar if i < BARS else ''}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
