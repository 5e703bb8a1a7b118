#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One VM that is moved from engine to engine by snapshots, with programs that go on: on the host and inside L1.

moves.py start SUPERMACHINE ENGINE CPU SNAPSHOT IMAGE CARRY
    boot IMAGE with 2 vCPUs, start carry (programs/) and, where the image has Python, carry.py, and make SNAPSHOT
    of it while they run.
moves.py go_on SUPERMACHINE ENGINE SNAPSHOT NEXT|- [PROGRAM...]
    restore it: each program must go on from where it was and have lost nothing, and PROGRAMs of the guest suite
    must print the same in the guest as here. NEXT: then a snapshot of it all.
The store is SUPERMACHINE_HOME. Exit: 0, or 1 and what is wrong."""
import os
import re
import shutil
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/programs")
import carry

NAME = "mover"
MARK = 0x5eed0fca11ab1e00  # of carry.c
PATIENCE = 200
KEPT = ("lost", "short", "late", "back")
# What the guest's kernel says when time or a processor is not what it was.
WARNING = re.compile(r"WARNING:|BUG:|Oops|general protection fault|rcu_.*stall|lockup|unchecked MSR|"
                     r"clocksource: .*unstable|Bad FPU state|invalid opcode")


class Wrong(Exception):
    pass


class Mover:
    def __init__(self, program):
        self.program = program

    def call(self, *argv):
        p = subprocess.run([self.program, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, errors="replace", timeout=PATIENCE)
        if p.returncode:
            raise Wrong(f"supermachine {' '.join(argv)}: status {p.returncode}: {p.stderr.strip()}")
        return p.stdout

    def inside(self, command):
        return self.call("exec", NAME, "sh", "-c", command)

    def run(self, engine, *argv):
        self.call("run", "-d", "--engine", engine, "--name", NAME, *argv, "sleep", "1000000")

    def end(self):
        subprocess.run([self.program, "rm", "-f", NAME], stdin=subprocess.DEVNULL, capture_output=True)

    def look(self):
        """{what: number} of carry, and (steps, hash, float) of carry.py or None."""
        words, _, chain = self.inside("cat /tmp/held; cat /tmp/chain 2>/dev/null || true").partition("\n")
        words = words.split()
        held = {k: int(v) for k, v in zip(words[:-1:2], words[1::2])}
        return held, words[-1:], (chain.split() or None)

    def wait_for(self, first, spins):
        """Until every program is further than it was."""
        end = time.monotonic() + PATIENCE
        while True:
            held, unit, chain = self.look()
            if held and held["spins"] >= first[0].get("spins", 0) + spins and \
                    held["naps"] >= first[0].get("naps", 0) + 10 and \
                    (not first[2] or chain and int(chain[0]) > int(first[2][0])):
                return held, unit, chain
            if time.monotonic() > end:
                raise Wrong(f"the programs do not go on: {first}, and then {held} {chain}")
            time.sleep(0.2)

    def snapshot(self, folder, cpu):
        """While carry's values are in a vCPU's registers: the file says whether they were."""
        values = [struct.pack("<Q", MARK | n) for n in range(16)]
        if cpu == "v3":
            values += [struct.pack("<Q", MARK ^ n ^ (1 << 64) - 1) for n in range(16)]
        for _ in range(20):
            self.call("snapshot", NAME, folder)
            with open(folder + "/state", "rb") as f:
                state = f.read()
            if all(v in state for v in values):
                return
            shutil.rmtree(folder)
            time.sleep(0.1)
        raise Wrong("no snapshot has carry's values in its registers")

    def start(self, engine, cpu, folder, image, program):
        self.run(engine, "--cold", "--cpu", cpu, "--vcpus", "2", "--memory", "192", image)
        self.call("cp", program, f"{NAME}:/tmp/carry")
        self.inside("chmod +x /tmp/carry; setsid /tmp/carry /tmp/held </dev/null >/dev/null 2>&1 &")
        python = self.inside("command -v python3 || true").strip()
        if python:
            self.call("cp", carry.__file__, f"{NAME}:/tmp/carry.py")
            self.inside("setsid python3 /tmp/carry.py /tmp/chain </dev/null >/dev/null 2>&1 &")
        self.wait_for(({}, [], ["0"] if python else None), 3)
        self.snapshot(folder, cpu)

    def compare(self, program):
        """One of tests/guest/programs in the guest, whose processor others use just now, and here."""
        self.call("cp", program, f"{NAME}:/tmp/program")
        there = self.inside("chmod +x /tmp/program && /tmp/program")
        here = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        if here.returncode or not here.stdout or there != here.stdout:
            raise Wrong(f"{program} prints {there!r} in the guest, and here {here.stdout!r}")

    def go_on(self, engine, folder, following, *programs):
        begin = time.monotonic()
        after = {}  # seconds

        def reached(what):
            after[what] = time.monotonic() - begin

        self.run(engine, f"snapshot:{folder}")
        reached("up")
        first = self.look()
        held, unit, chain = self.wait_for(first, 3)
        reached("went on")
        if any(held[k] for k in KEPT):
            raise Wrong(f"carry lost something: {held}")
        if chain:
            right = next(c for c in carry.chain() if c[0] == int(chain[0]))
            if chain != [str(right[0]), *right[1:]]:
                raise Wrong(f"carry.py computed {chain}, not {right}")
        said = [line for line in self.inside("dmesg || true").splitlines() if WARNING.search(line)]
        if said:
            raise Wrong("the guest's kernel says: " + "; ".join(said[:5]))
        for program in programs:
            self.compare(program)
            reached(f"{os.path.basename(program)} as here")
        if following != "-":
            self.snapshot(following, {"avx": "v3"}.get(unit[0], "v2"))
            reached("saved")
        print(f"{engine}: {unit[0]}: spins {first[0]['spins']} -> {held['spins']}, "
              f"naps {first[0]['naps']} -> {held['naps']}"
              + (f"; python: step {first[2][0]} -> {chain[0]}" if chain else "; no python")
              + "".join(f"; {what} after {seconds:.1f} s" for what, seconds in after.items()), flush=True)


def main():
    what, program, *rest = sys.argv[1:]
    mover = Mover(program)
    try:
        if what == "start":
            mover.start(*rest)
        else:
            mover.go_on(*rest)
    except (Wrong, subprocess.TimeoutExpired) as e:
        sys.exit(f"moves.py {what}: {e}")
    finally:
        mover.end()


if __name__ == "__main__":
    main()
