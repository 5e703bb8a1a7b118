# SPDX-License-Identifier: Apache-2.0
"""Boot a guest again and again, by hand: boot_many.py PROGRAM [--count 200] [--vcpus 4] [--jobs 1].
Each run must print its number of processors and end within --patience seconds; what went otherwise
is kept in --log. Prints a summary; exits 1 if a run failed."""
import argparse
import concurrent.futures
import subprocess
import sys
import time


def boot(args, number):
    start = time.monotonic()
    try:
        p = subprocess.run([args.program, "run", "--vcpus", str(args.vcpus), "busybox", "nproc"],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=args.patience)
        good = (p.returncode, p.stdout) == (0, b"%d\n" % args.vcpus)
        what = "" if good else f"code {p.returncode}: {p.stdout!r} {p.stderr!r}"
    except subprocess.TimeoutExpired as e:
        what = f"no end in {args.patience} s: {e.stdout!r} {e.stderr!r}"
    return number, time.monotonic() - start, what


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("--count", type=int, default=200)
    a.add_argument("--vcpus", type=int, default=4)
    a.add_argument("--jobs", type=int, default=1)
    a.add_argument("--patience", type=float, default=120)
    a.add_argument("--log", default="boot_many.log")
    args = a.parse_args()
    times, bad = [], 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool, open(args.log, "w") as log:
        for number, seconds, what in pool.map(lambda n: boot(args, n), range(args.count)):
            times.append(seconds)
            log.write(f"{number} {seconds:.2f} {what or 'ok'}\n")
            log.flush()
            bad += what != ""
    times.sort()
    print(f"{len(times)} boots with {args.vcpus} vCPUs, {bad} failed; seconds: least {times[0]:.2f}, "
          f"median {times[len(times) // 2]:.2f}, most {times[-1]:.2f}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
