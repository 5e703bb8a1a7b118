# SPDX-License-Identifier: Apache-2.0
"""Faults in system calls of a program and of the processes that it starts, by strace."""
import re
import subprocess


def can_trace():
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"],
                              capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def calls(argv, names, folder, log, **how):
    """Run a program to its end. Every call of these names on a file in folder, in order: (name, path, its number
    among the thread's calls of that name on that path, the line of the trace)."""
    subprocess.run(["strace", "-f", "-qq", "-y", "-s", "0", "-o", log, "-e", "trace=" + ",".join(names), *argv],
                   check=True, capture_output=True, **how)
    seen, out = {}, []
    with open(log) as f:
        for line in f:
            call = re.match(r"(\d+) +(\w+)\(", line)
            path = re.search(r'[<"](' + re.escape(folder) + r'/[^>"]*)[>"]', line)
            if call and path:
                at = *call.groups(), path[1]
                seen[at] = seen.get(at, 0) + 1
                out.append((call[2], path[1], seen[at], line))
    return out


def inject(argv, name, path, number, what, **how):
    """Run it with a fault at a call: what is signal=KILL or error=EIO. The number-th call of that name on that
    path counts, in each thread that gets so far."""
    return subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=" + name,
                           "-e", f"inject={name}:{what}:when={number}", *argv], **how)
