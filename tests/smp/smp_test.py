# SPDX-License-Identifier: Apache-2.0
"""Guests with several vCPUs: smp_test.py PROGRAM [CLASS[.TEST]...]. SM_STRESS_SECONDS (5) makes the
stress run longer."""
import os
import re
import sys
import unittest

sys.path.insert(0, os.environ["SM_SOURCE_DIR"] + "/tests/cli")

from program import Case, PATIENCE  # noqa: E402
import smp_image  # noqa: E402
from images import run_tests  # noqa: E402

SECONDS = int(os.environ.get("SM_STRESS_SECONDS", "5"))
# What Linux says when something is wrong, in the words of its own log.
TROUBLE = re.compile(r"WARNING:|BUG:|Call Trace|Oops|soft lockup|hard LOCKUP|stall|not responding|"
                     r"Clocksource .* unstable|no irq handler|nobody cared|[Ff]ailed to (?:start|boot)")


def interrupts(text):
    """{name: [count per vCPU]} of /proc/interrupts."""
    lines = text.splitlines()
    n = len(lines[0].split())
    rows = {}
    for line in lines[1:]:
        name, *fields = line.split()
        rows[name.rstrip(":")] = [int(f) for f in fields[:n] if f.isdigit()]
    return n, rows


class Processors(Case):
    def check_log(self, log):
        found = [line for line in log.splitlines() if TROUBLE.search(line)]
        self.assertEqual(found, [])

    def look(self, vcpus):
        script = ("nproc; echo ---; grep -E '^(apicid|cpu cores|siblings)' /proc/cpuinfo; echo ---; "
                  "i=0; while [ $i -lt 200 ]; do (:) & i=$((i+1)); done; wait; "
                  "cat /proc/interrupts; echo ---; dmesg")
        code, out, err = self.run_vm("--vcpus", str(vcpus), "busybox", "sh", "-c", script)
        self.assertEqual((code, err), (0, b""))
        count, cpuinfo, irqs, log = out.decode().split("---\n")
        self.assertEqual(int(count), vcpus)
        self.assertEqual(re.findall(r"apicid\s*: (\d+)", cpuinfo), [str(i) for i in range(vcpus)])
        self.assertEqual(set(re.findall(r"(?:cores|siblings)\s*: (\d+)", cpuinfo)), {str(vcpus)})
        n, rows = interrupts(irqs)
        self.assertEqual(n, vcpus)
        self.assertTrue(all(c > 0 for c in rows["LOC"]), "a vCPU without timer interrupts: " + irqs)
        self.assertTrue(all(c > 0 for c in rows["CAL"]) or vcpus == 1,
                        "a vCPU without function call interrupts: " + irqs)
        self.assertEqual((rows["ERR"], rows["MIS"], sum(rows["SPU"])), ([0], [0], 0), irqs)
        self.check_log(log)

    def test_two(self):
        self.look(2)

    def test_four(self):
        self.look(4)

    def test_eight(self):
        self.expect(0, b"8\n", "--vcpus", "8", "busybox", "nproc")

    @unittest.skipUnless(smp_image.stress_ng(), "no stress-ng (tools/install-deps)")
    def test_stress(self):
        """Stressors that check what they compute, on 4 vCPUs."""
        image = smp_image.make(self.dir + "/image")
        script = (f"stress-ng --verify --timeout {SECONDS} --cpu 2 --vm 1 --vm-bytes 32M --matrix 1 "
                  "--atomic 2 --switch 1 --signal 1 --fork 1 --mmap 1 --mmap-bytes 16M "
                  "--memfd 1 --memfd-bytes 16M --futex 1 2>&1; echo code $?; echo ---; dmesg")
        code, out, err = self.run_vm("--vcpus", "4", "--memory", "512", image, "sh", "-c", script,
                                     patience=SECONDS + PATIENCE)
        self.assertEqual((code, err), (0, b""))
        said, log = out.decode(errors="replace").split("---\n")
        self.assertIn("code 0\n", said, said)
        self.assertNotRegex(said, "fail:|error:")
        self.check_log(log)


if __name__ == "__main__":
    run_tests()
