#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A volume under fio: fio.py SUPERMACHINE. What is written, directly and through the guest's page cache, is read back
right (fio --verify), also by the next VM; and when a VM is killed amid all that, what was synced before is there,
and the file system whole. 10 s and 2 kills; SM_LONG=1: 5 minutes and 10."""
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

import fio_image
from image_cache import Skip

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("SM_SOURCE_DIR", os.path.dirname(os.path.dirname(HERE)))
SECONDS, KILLS = (300, 10) if "SM_LONG" in os.environ else (10, 2)
PATIENCE = 240
MIB = 1 << 20
os.environ["PATH"] += ":/usr/sbin:/sbin"

# One pass: two files, each in random order in blocks of mixed sizes, then each verified: by a CRC for each 4 KiB, and
# by a pattern of the place and of this pass, so that what an earlier one wrote is wrong. $1 is its number, $2 options.
JOB = """fio $2 --randseed=$1 --output-format=json --thread --directory=/data --rw=randwrite --size=32m \
    --verify_fatal=1 --bssplit=4k/50:64k/40:256k/10 \
    --name=direct --verify=crc32c --direct=1 --ioengine=libaio --iodepth=16 \
    --name=cached --verify=pattern --verify_pattern=$(printf '0x%%08x%%%%o' $1) --ioengine=psync --fsync=64"""
WRITE = f"""end=$(($(date +%%s) + %d)); n=0; until [ $(date +%%s) -ge $end ]; do
    n=$((n+1)); set -- $n; {JOB} || exit 1; done; sync"""
READ = f"set -- %d '--verify_only'; {JOB}"
# Synced, and then a file system in full use: until the end.
BUSY = f"""set -- %d '--do_verify=0 --end_fsync=1'; {JOB} >/tmp/log || {{ cat /tmp/log; exit 1; }}
fio --thread --directory=/data --rw=randrw --size=32m --time_based --runtime=1h --bssplit=4k/50:64k/50 \
    --name=a --direct=1 --ioengine=libaio --iodepth=16 --name=b --ioengine=psync --fsync=8 >/dev/null &
echo go
while :; do mkdir -p /data/d/e; for i in 1 2 3 4 5 6 7 8; do head -c 20000 /dev/urandom >/data/d/e/$i; done
    mv /data/d/e/1 /data/d/f; sync; rm -r /data/d; done"""


class Failed(Exception):
    pass


def expect(good, *said):
    if not good:
        raise Failed(" ".join(map(str, said)))


class Volume:
    def __init__(self, exe, image, home):
        self.argv = [exe, "run", "--memory", "512", "-v", "fio:/data", image, "sh", "-c"]
        self.env = dict(os.environ, SUPERMACHINE_HOME=home)
        self.path = f"{home}/volumes/fio.img"

    def fio(self, script, timeout=PATIENCE):
        """What the passes of fio read and wrote, in bytes, the number of passes, and that of the disk's writes."""
        p = subprocess.run(self.argv + [script], env=self.env, capture_output=True, text=True, timeout=timeout)
        expect(p.returncode == 0, f"status {p.returncode}:", p.stdout[-2000:], p.stderr[-2000:])
        total, passes, writes, text = [0, 0], 0, 0, p.stdout
        while text := text.strip():
            result, end = json.JSONDecoder().raw_decode(text)
            text = text[end:]
            passes += 1
            writes += result["disk_util"][0]["write_ios"]
            for job in result["jobs"]:
                expect(job["error"] == 0, job["jobname"], "error", job["error"])
                total[0] += job["read"]["io_bytes"]
                total[1] += job["write"]["io_bytes"]
        return *total, passes, writes

    def expect_kept(self, seed):
        """Another VM finds what that pass wrote. fio counts, but does not do, that pass's writes."""
        read, _, _, writes = self.fio(READ % seed)
        expect(read == 64 * MIB and writes < 200, f"{read} bytes verified, the disk written {writes} times")

    def expect_clean(self):
        p = subprocess.run(["e2fsck", "-fn", self.path], capture_output=True, text=True)
        expect(p.returncode == 0 and "recovery" not in p.stdout, f"e2fsck: status {p.returncode}:", p.stdout)

    def kill_amid(self, seed):
        p = subprocess.Popen(self.argv + [BUSY % seed], env=self.env, stdout=subprocess.PIPE, text=True)
        said = p.stdout.readline()
        if said == "go\n":
            time.sleep(random.uniform(0.1, 2))
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            pids = [int(pid) for pid in f.read().split()]
        for pid in pids + [p.pid]:
            os.kill(pid, signal.SIGKILL)
        p.communicate(timeout=PATIENCE)
        expect(said == "go\n" and len(pids) == 1, f"{said}, VMs {pids}")
        while is_alive(pids[0]):
            time.sleep(0.01)


def is_alive(pid):
    """Until its last thread is gone: then its files are closed."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def check(volume):
    read, written, passes, _ = volume.fio(WRITE % SECONDS, SECONDS + PATIENCE)
    print(f"{passes} passes in {SECONDS} s: {written / MIB:.0f} MiB written, {read / MIB:.0f} MiB verified", flush=True)
    expect(passes > 0 and read == written == passes * 64 * MIB, "that is not all")
    volume.expect_clean()
    volume.expect_kept(passes)
    for seed in range(1000, 1000 + KILLS):
        volume.kill_amid(seed)
        volume.expect_kept(seed)
        volume.expect_clean()
    print(f"{KILLS} kills: what was synced is there, and e2fsck finds nothing")


def main():
    try:
        image = f"oci:{fio_image.image(SOURCE)}/oci:big"
    except Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    with tempfile.TemporaryDirectory(prefix="sm-fio.") as home:
        try:
            check(Volume(sys.argv[1], image, home))
        except Failed as why:
            print(f"FAIL: {why}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
