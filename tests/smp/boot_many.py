# SPDX-License-Identifier: Apache-2.0
"""Boot a guest again and again, by hand: boot_many.py PROGRAM [--count 200] [--vcpus 4] [--jobs 1]
[--restore]. With --restore all but the first start from the first one's snapshot. Each run must print
its number of processors and end within --patience seconds. --log has a line for each: number, seconds,
seconds of processor time (with one job), the host's load, and what went wrong. Prints a summary; exits
1 if a run failed."""
import argparse
import concurrent.futures
import os
import resource
import subprocess
import sys
import time


def used():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def boot(args, number):
    start, cpu = time.monotonic(), used()
    try:
        how = [] if args.restore else ["--cold"]
        p = subprocess.run([args.program, "run", *how, "--vcpus", str(args.vcpus), "busybox", "nproc"],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=args.patience)
        good = (p.returncode, p.stdout) == (0, b"%d\n" % args.vcpus)
        what = "" if good else f"code {p.returncode}: {p.stdout!r} {p.stderr!r}"
    except subprocess.TimeoutExpired as e:
        what = f"no end in {args.patience} s: {e.stdout!r} {e.stderr!r}"
    return number, time.monotonic() - start, used() - cpu, what


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("--count", type=int, default=200)
    a.add_argument("--vcpus", type=int, default=4)
    a.add_argument("--jobs", type=int, default=1)
    a.add_argument("--restore", action="store_true")
    a.add_argument("--patience", type=float, default=120)
    a.add_argument("--log", default="boot_many.log")
    args = a.parse_args()
    times, bad = [], 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool, open(args.log, "w") as log:
        for number, seconds, cpu, what in pool.map(lambda n: boot(args, n), range(args.count)):
            times.append(seconds)
            log.write(f"{number} {seconds:.2f} {cpu:.2f} {os.getloadavg()[0]:.1f} {what or 'ok'}\n")
            log.flush()
            bad += what != ""
    times.sort()
    print(f"{len(times)} {'restores' if args.restore else 'boots'} with {args.vcpus} vCPUs, {bad} failed; seconds: least {times[0]:.2f}, "
          f"median {times[len(times) // 2]:.2f}, most {times[-1]:.2f}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
