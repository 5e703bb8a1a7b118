#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""save and load: what we write, skopeo and umoci read; what comes back is what was saved; archives of others
are taken, and broken ones refused before an image has a name."""
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import tarfile
import tempfile
import unittest

from case import *

C = tar([("d", b"D" * 900)])
FORMATS = ("docker-archive", "oci-archive", "oci-dir")
NAME = "example.org/team/app:1.2"


def needs(*tools):
    return unittest.skipUnless(all(map(shutil.which, tools)), f"no {' or '.join(tools)}")


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-save-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def environment(self, store):
        return environment(self.dir, SUPERMACHINE_HOME=f"{self.dir}/{store}")

    def cli(self, *args, store="one", code=0, **more):
        r = subprocess.run([CLI, *args], capture_output=True, timeout=60, env=self.environment(store), **more)
        self.assertEqual(r.returncode, code, r.stdout[-500:] + r.stderr)
        return r.stderr.decode() if code else r.stdout

    def refused(self, *args, words, **more):
        said = self.cli(*args, code=125, **more)
        self.assertEqual(said.count("\n"), 1, said)
        for word in words:
            self.assertIn(word, said)

    def inspect(self, name, store):
        return json.loads(self.cli("inspect", name, store=store))

    def names(self, store):
        return sorted(i["name"] for i in json.loads(self.cli("images", "--json", store=store)))

    def files(self, name, store):
        """What VMs would map."""
        r = subprocess.run([TOOL, name, f"{self.dir}/{store}"], capture_output=True, check=True,
                           env=self.environment(store))
        return [read(x["path"]) for x in json.loads(r.stdout)["layers"]]

    def layout(self, layers=(A, B), name=NAME, folder="made", **more):
        lay = Layout(f"{self.dir}/{folder}")
        lay.add(lay.image(list(layers), **more), tag=name)
        return lay

    def filled(self, *layers, name=NAME, **more):
        """An image in the store "one"; its path and format for save."""
        lay = self.layout(layers or (A, B), name, folder=f"made{random.random()}", **more)
        self.cli("load", "-i", lay.path)
        return lay

    def archive_of(self, folder, compress=None):
        path = f"{self.dir}/made.tar"
        with tarfile.open(path, "w:" + (compress or "")) as t:
            t.add(folder, ".")
        return path


class RoundTrip(Case):
    def test_each_format(self):
        self.filled(A, B)
        self.filled(A, C, name="docker.io/library/other:latest", media=[TAR, ZSTD])
        saved = {}
        for f in FORMATS:
            out, store = f"{self.dir}/{f}.saved", "from-" + f
            self.cli("save", "-o", out, "--format", f, NAME, "other")
            said = self.cli("load", "-i", out, store=store).decode().split()
            self.assertEqual(sorted(said[::2]), sorted([NAME, "docker.io/library/other:latest"]))
            self.assertEqual(self.names(store), sorted(said[::2]))
            for name in (NAME, "other"):
                was, now = self.inspect(name, "one"), self.inspect(name, store)
                was.pop("added"), now.pop("added")
                self.assertEqual(was, now)
                self.assertEqual(self.files(name, "one"), self.files(name, store))
            self.cli("verify", store=store)
            if f != "oci-dir":
                saved[f] = read(out)
                self.assertEqual(os.stat(out).st_mode & 0o777, 0o600)
                self.assertEqual(self.cli("save", "--format", f, NAME, "other"), saved[f])

    def test_pipe_and_compression(self):
        self.filled()
        data = self.cli("save", "-o", "-", NAME)
        self.cli("load", store="two", input=data)
        self.cli("load", "-i", "-", store="three", input=gzip.compress(data))
        for store in ("two", "three"):
            self.assertEqual(self.inspect(NAME, store)["digest"], self.inspect(NAME, "one")["digest"])

    def test_name_option(self):
        self.filled()
        self.cli("save", "-o", self.dir + "/x", NAME)
        self.cli("load", "-i", self.dir + "/x", "--name", "mine", store="two")
        self.assertEqual(self.names("two"), ["docker.io/library/mine:latest"])

    def test_two_names_of_one_image(self):
        lay = self.filled()
        self.cli("load", "-i", lay.path, "--name", "second")
        data = self.cli("save", NAME, "second")
        with tarfile.open(fileobj=io.BytesIO(data)) as t:
            listed = json.load(t.extractfile("manifest.json"))
            self.assertEqual(len(set(t.getnames())), len(t.getnames()))
        self.assertEqual([x["RepoTags"] for x in listed], [[NAME, "docker.io/library/second:latest"]])
        self.cli("load", store="two", input=data)
        self.assertEqual(self.names("two"), sorted([NAME, "docker.io/library/second:latest"]))


@needs("skopeo", "umoci")
class Others(Case):
    def skopeo(self, *args):
        r = subprocess.run(["skopeo", *args], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def test_skopeo_reads(self):
        self.filled(A, B)
        want = self.inspect(NAME, "one")
        for f, transport in zip(FORMATS, ("docker-archive", "oci-archive", "oci")):
            out = f"{self.dir}/{f}"
            self.cli("save", "-o", out, "--format", f, NAME)
            got = json.loads(self.skopeo("inspect", f"{transport}:{out}"))
            self.assertEqual(len(got["Layers"]), 2)
            if f != "docker-archive":
                self.assertEqual(got["Digest"], want["digest"])
            self.skopeo("copy", "-q", f"{transport}:{out}", f"oci:{out}.copy:{NAME}")
            self.cli("load", "-i", f"{out}.copy", store="back-" + f)
            back = self.inspect(NAME, "back-" + f)
            self.assertEqual([x["diff_id"] for x in back["layers"]], [x["diff_id"] for x in want["layers"]])
            self.assertEqual(back["config"]["config"], want["config"]["config"])
            self.assertEqual(self.files(NAME, "back-" + f), self.files(NAME, "one"))

    def unpack(self, folder, tag):
        out = f"{self.dir}/unpacked{random.random()}"
        subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{folder}:{tag}", out], check=True,
                       capture_output=True, timeout=60)
        return out + "/rootfs"

    def test_umoci_reads(self):
        self.filled(A, B)
        self.cli("save", "-o", self.dir + "/l", "--format", "oci-dir", NAME)
        root = self.unpack(self.dir + "/l", "1.2")
        with open(root + "/dir/b", "rb") as b, open(root + "/c", "rb") as c:
            self.assertEqual((b.read(), c.read()), (b"B" * 70000, NOISE))

    def test_docker_manifest(self):
        """OCI layouts hold OCI's types; a name that is a digest keeps the manifest it names."""
        r = Registry()
        self.addCleanup(r.close)
        lay = self.layout([A, B], name="1")
        self.skopeo("copy", "-q", "--format", "v2s2", f"oci:{lay.path}:1", f"dir:{self.dir}/v2s2")
        raw = read(self.dir + "/v2s2/manifest.json")
        m = json.loads(raw)
        self.assertIn("docker", m["mediaType"])
        r.manifests["1"] = r.manifests[sha(raw)] = (raw, m["mediaType"])
        for d in [m["config"], *m["layers"]]:
            r.blobs[d["digest"]] = read(f"{self.dir}/v2s2/{d['digest'][7:]}")
        ref = f"{r.host}/t/image:1"
        self.cli("pull", "-q", ref)
        self.cli("save", "-o", self.dir + "/l", "--format", "oci-dir", ref)
        self.assertTrue(os.path.exists(self.unpack(self.dir + "/l", "1") + "/c"))
        self.cli("load", "-i", self.dir + "/l", store="two")
        was, now = self.inspect(ref, "one"), self.inspect(ref, "two")
        self.assertEqual(was["id"], now["id"])
        self.assertNotEqual(was["digest"], now["digest"])
        self.assertEqual([x["digest"] for x in was["layers"]], [x["digest"] for x in now["layers"]])
        pinned = f"{r.host}/t/image@{sha(raw)}"
        self.cli("pull", "-q", pinned)
        self.cli("load", store="two", input=self.cli("save", pinned))
        self.assertEqual(self.inspect(pinned, "two")["digest"], sha(raw))

    def test_load_what_skopeo_writes(self):
        lay = self.layout([A, B], name="1")
        want = None
        for i, (form, name) in enumerate((("docker-archive", "docker.io/team/app:2"), ("oci-archive", NAME),
                                          ("oci", NAME))):
            out = f"{self.dir}/{form}.saved"
            self.skopeo("copy", "-q", f"oci:{lay.path}:1", f"{form}:{out}:{name}")
            said = self.cli("load", "-i", out, store=form).decode().split()
            self.assertEqual(said[0], name)
            self.cli("verify", store=form)
            got = [x["diff_id"] for x in self.inspect(name, form)["layers"]]
            self.assertEqual(got, [sha(A), sha(B)])
            self.assertEqual(self.files(name, form), want or self.files(name, form))
            want = self.files(name, form)


class FromOthers(Case):
    def test_docker_save_of_all_ages(self):
        for style in ("old", "link", "new"):
            docker_archive(self.dir + "/x", [A, B], style=style, tags=["foo:bar", "localhost:5000/x/y:z"])
            self.cli("load", "-i", self.dir + "/x", store=style)
            self.assertEqual(self.names(style), ["docker.io/library/foo:bar", "localhost:5000/x/y:z"])
            self.assertEqual(self.files("foo:bar", style), self.files("foo:bar", "old"))
            self.cli("verify", store=style)

    def test_compressed_layers(self):
        layers = [pack(A, GZIP), pack(B, ZSTD)]
        docker_archive(self.dir + "/x", layers, style="new", conf=config([A, B]))
        self.cli("load", "-i", self.dir + "/x")
        self.assertEqual([x["digest"] for x in self.inspect("foo:bar", "one")["layers"]],
                         [sha(x) for x in layers])

    def test_platforms(self):
        lay = Layout(self.dir + "/l")
        ours, other = lay.image([A]), lay.image([B], conf=config([B], architecture="arm64"))
        index = lay.blob({"schemaVersion": 2, "manifests": [
            dict(other, platform=platform("linux", "arm64")), dict(ours, platform=platform("linux", "amd64"))]},
            INDEX)
        lay.add(index, tag=NAME)
        self.cli("load", "-i", lay.path)
        self.assertEqual(self.inspect(NAME, "one")["digest"], ours["digest"])

    def test_names(self):
        lay = self.layout(name="latest")
        self.refused("load", "-i", lay.path, words=['only called "latest"', "--name"])
        self.cli("load", "-i", lay.path, "--name", NAME, store="two")
        lay = self.layout(name=None, folder="none")
        self.refused("load", "-i", lay.path, words=["no name", "--name"])
        self.cli("load", "-i", lay.path, "--name", NAME, store="three")
        lay.add(lay.image([C]), tag="b:1")
        self.refused("load", "-i", lay.path, words=["without a name"])
        lay = self.layout(name="a:1", folder="several")
        lay.add(lay.image([C]), tag="b:1")
        self.refused("load", "-i", lay.path, "--name", NAME, words=["2 images"])
        docker_archive(self.dir + "/x", [A], tags=None)
        self.refused("load", "-i", self.dir + "/x", words=["no name", "--name"])
        lay = self.layout(name="BAD/../x:1", folder="bad")
        self.refused("load", "-i", lay.path, words=["lower-case"])
        lay = self.layout(name="app@sha256:" + 64 * "0", folder="pinned")
        self.refused("load", "-i", lay.path, words=["is called sha256:000"])
        self.assertEqual(self.names("one"), [])


class Broken(Case):
    def nothing(self, *words, path=None, **more):
        self.refused("load", "-i", path or self.dir + "/x", words=words, **more)
        self.assertEqual(os.listdir(self.dir + "/one/images"), [])
        for tmp in os.listdir(self.dir + "/one/tmp"):
            self.fail(tmp + " was left")
        shutil.rmtree(self.dir + "/one")  # with the blobs that were right

    def test_damaged_layouts(self):
        lay = self.layout()
        manifest = lay.entries[0]
        m = json.loads(read(lay.blob_path(manifest["digest"])))
        whole = {d["digest"]: read(lay.blob_path(d["digest"])) for d in [manifest, m["config"], *m["layers"]]}
        for digest, data in whole.items():
            wrong = bytearray(data)
            wrong[len(wrong) // 2] ^= 1
            for what, word in ((bytes(wrong), "match its digest"), (data[:-1], "bytes instead of"),
                               (data + b"x", "bytes instead of"), (None, "")):
                if what is None:
                    os.unlink(lay.blob_path(digest))
                else:
                    with open(lay.blob_path(digest), "wb") as f:
                        f.write(what)
                for path in (lay.path, self.archive_of(lay.path)):
                    self.nothing(word, digest, path=path)
                with open(lay.blob_path(digest), "wb") as f:
                    f.write(data)
        self.cli("load", "-i", lay.path)

    def test_false_diff_id(self):
        self.nothing("diff id", path=self.layout([A, B], conf=config([A, C])).path)
        docker_archive(self.dir + "/x", [A, B], conf=config([A, C]))
        self.nothing("diff id")
        docker_archive(self.dir + "/x", [pack(B, GZIP)], conf=config([C]))
        self.nothing("diff id")

    def test_false_claims_of_docker_archives(self):
        docker_archive(self.dir + "/x", [A], style="new", names=["blobs/sha256/" + sha(B)[7:]])
        self.nothing("match its digest", sha(A))

    def test_truncated(self):
        lay = self.layout([B])
        data = read(self.archive_of(lay.path))
        packed = gzip.compress(data)
        for whole, tail in ((data, 10240), (packed, 1)):
            for n in (0, 1, 100, 512, len(whole) // 3, len(whole) // 2, len(whole) - tail):
                with open(self.dir + "/x", "wb") as f:
                    f.write(whole[:n])
                if n < len(whole) - 10240 or whole is packed:
                    self.nothing(self.dir + "/x")
                    self.nothing("/dev/stdin", path="-", input=whole[:n])

    def test_no_archive(self):
        self.nothing("No such file")
        os.mkdir(self.dir + "/x")
        self.nothing("neither index.json nor manifest.json")
        with open(self.dir + "/y", "wb") as f:
            f.write(tar([("a", b"")]))
        self.nothing("neither index.json nor manifest.json", path=self.dir + "/y")
        os.mkfifo(self.dir + "/x/oci-layout")
        self.nothing("not a regular file")

    def test_second_image_is_broken(self):
        lay = self.layout([A], name="a:1")
        lay.add(lay.image([B], conf=config([C])), tag="b:1")
        self.refused("load", "-i", lay.path, words=["image b:1", "diff id"])
        self.assertEqual(self.names("one"), ["docker.io/library/a:1"])
        self.cli("gc")
        self.cli("verify")


class Memory(Case):
    """At most 64 MiB, whatever the layer's size: 2 GiB with SM_LONG=1."""
    MIB = 2048 if os.environ.get("SM_LONG") else 96
    # The peak of the child alone: ours, from which it is forked, would count too.
    PEAK = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")

    def peak_mib(self, *args):
        r = subprocess.run([sys.executable, "-S", "-c", self.PEAK, CLI, *args], capture_output=True, text=True,
                           env=self.environment("one"))
        self.assertEqual(r.returncode, 0, r.stderr)
        return int(r.stdout) / 1024

    def test_large_layer(self):
        some, path = random.Random(5).randbytes(1 << 20) + bytes(1 << 20), self.dir + "/t"
        with tarfile.open(path, "w") as t:
            for i in range(20000):
                t.addfile(tarfile.TarInfo(f"usr/share/{i % 100}/a-name-of-usual-length-{i}"))
            info = tarfile.TarInfo("big")
            info.size = self.MIB << 20
            t.addfile(info, Repeated(some))
        lay = Layout(self.dir + "/l")
        diff_id = "sha256:" + subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout[:64]
        subprocess.run(["gzip", "-1n", path], check=True)
        packed = subprocess.run(["sha256sum", path + ".gz"], capture_output=True, text=True).stdout[:64]
        os.rename(path + ".gz", lay.blob_path("sha256:" + packed))
        size = os.path.getsize(lay.blob_path("sha256:" + packed))
        conf = config([], rootfs={"type": "layers", "diff_ids": [diff_id]})
        lay.add(lay.blob({"schemaVersion": 2, "config": lay.blob(conf, CONFIG),
                          "layers": [{"mediaType": GZIP, "digest": "sha256:" + packed, "size": size}]}, MANIFEST),
                tag=NAME)
        peaks = self.peak_mib("load", "-i", lay.path), self.peak_mib("save", "-o", self.dir + "/out", NAME)
        print(f"a layer of {self.MIB} MiB: load {peaks[0]:.1f} MiB, save {peaks[1]:.1f} MiB", file=sys.stderr)
        with open(CLI, "rb") as f:
            if b"__asan_init" not in f.read():
                self.assertLess(max(peaks), 64)


class Repeated:
    def __init__(self, data):
        self.data = data

    def read(self, n):
        return (self.data * (n // len(self.data) + 1))[:n]


class Output(Case):
    def setUp(self):
        super().setUp()
        self.filled(A, B)
        self.out = self.dir + "/out"
        os.mkdir(self.out)

    def fails(self, *args, words=(), **more):
        self.refused("save", *args, NAME, words=words, **more)

    def test_old_file_stays_until_the_new_is_complete(self):
        path = self.out + "/x"
        for content in (None, b"old"):
            if content:
                with open(path, "wb") as f:
                    f.write(content)

            def limit():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
            for form in FORMATS[:2]:
                self.fails("-o", path, "--format", form, words=["cannot write to " + path], preexec_fn=limit)
                self.assertEqual(os.listdir(self.out), ["x"] if content else [])
        with open(path, "rb") as f:
            self.assertEqual(f.read(), b"old")
        os.symlink("x", self.out + "/link")
        self.cli("save", "-o", self.out + "/link", NAME)
        self.assertTrue(os.path.islink(self.out + "/link"))
        self.assertTrue(tarfile.is_tarfile(path))
        self.fails("-o", self.out + "/d", "--format", "oci-dir", words=["cannot write to"], preexec_fn=limit)
        self.assertEqual(sorted(os.listdir(self.out)), ["link", "x"])

    def test_interrupted(self):
        def ask():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            os.kill(os.getpid(), signal.SIGINT)
        for form in FORMATS:
            r = subprocess.run([CLI, "save", "-o", self.out + "/x", "--format", form, NAME], timeout=60,
                               env=self.environment("one"), preexec_fn=ask, capture_output=True)
            self.assertEqual(r.returncode, 130, r.stderr)
            self.assertEqual(os.listdir(self.out), [])

    def test_places(self):
        self.fails("-o", "/dev/full", words=["No space left on device"])
        self.fails("-o", self.out, words=["is a folder"])
        self.fails("-o", self.dir, "--format", "oci-dir", words=["not empty"])
        self.fails("-o", CLI, "--format", "oci-dir", words=["no folder"])
        self.fails("-o", self.out + "/no/x", words=["No such file"])
        self.fails("--format", "oci-dir", words=["-o DIR"])
        self.fails("--format", "zip", words=["unknown format"])
        self.cli("save", "-o", self.out + "//", "--format", "oci-dir", NAME)
        self.assertEqual(sorted(os.listdir(self.out)), ["blobs", "index.json", "oci-layout"])

    def test_damaged_store(self):
        blobs = self.dir + "/one/blobs/sha256/"
        layer = self.inspect(NAME, "one")["layers"][1]
        path = blobs + layer["digest"][7:]
        with open(path, "rb") as f:
            data = bytearray(f.read())
        data[1000] ^= 1
        with open(path, "wb") as f:
            f.write(data)
        self.fails("-o", self.out + "/x", words=[layer["digest"], "damaged", "verify --repair"])
        os.unlink(path)
        self.fails("-o", self.out + "/x", words=[layer["digest"], "not in the store", "pull it again"])
        self.assertEqual(os.listdir(self.out), [])
        self.refused("save", "nope", words=["has no image"])
        self.assertEqual(self.cli("save", "nope", code=125).count("\n"), 1)


if __name__ == "__main__":
    run_tests()
