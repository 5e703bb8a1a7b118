#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Black-box tests of image_open through image_open_tool: which images open, what is refused, and in
what words. Crash and disk-full tests are in store_crash_test.py."""
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from images import *

TOOL = sys.argv[1]
BUILTIN = os.environ["SM_BUILD_DIR"] + "/images"


class ImageCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-image-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.store = self.dir + "/store"

    def path(self, name):
        return f"{self.dir}/{name}"

    def run_tool(self, ref):
        return subprocess.run([TOOL, ref, self.store, BUILTIN], capture_output=True, text=True,
                              timeout=120)

    def opens(self, ref, layers=None):
        """Opens ref; its layers must be there, sound, and have the diff ids of these tars."""
        r = self.run_tool(ref)
        self.assertEqual(r.returncode, 0, r.stderr)
        out = json.loads(r.stdout)
        for layer in out["layers"]:
            self.assertEqual(os.path.getsize(layer["path"]), layer["size"])
            self.assertEqual(os.stat(layer["path"]).st_mode & 0o777, 0o600)
            subprocess.run(["fsck.erofs", layer["path"]], check=True, capture_output=True)
        if layers is not None:
            self.assertEqual([x["diff_id"] for x in out["layers"]], [sha(x) for x in layers])
        return out

    def refused(self, ref, *words, nothing=True):
        """Must be refused, in one line holding all words, leaving nothing behind."""
        r = self.run_tool(ref)
        self.assertEqual(r.returncode, 125, r.stdout + r.stderr)
        self.assertEqual(r.stdout, "")
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        for word in words:
            self.assertIn(word, r.stderr)
        if nothing:
            self.assertEqual(self.stored(), [])
        self.assertEqual(os.listdir(self.store + "/tmp"), [])
        return r.stderr

    def stored(self):
        return sorted(os.listdir(self.store + "/layers/sha256"))


A = tar([("a", b"one\n" * 1000)])
B = tar([("b", b"two\n"), ("dir/c", b"three\n")])
EMPTY = b"\0" * 10240


class Good(ImageCase):
    def test_busybox(self):
        out = self.opens("busybox")
        self.assertEqual(out["cmd"], ["sh"])
        self.assertEqual(len(out["layers"]), 1)

    def test_all_compressions_are_one_layer(self):
        seen = set()
        for media in (TAR, GZIP, ZSTD, DOCKER + "image.rootfs.diff.tar.gzip",
                      OCI + "layer.nondistributable.v1.tar+gzip"):
            lay = Layout(self.path(media.replace("/", "_")))
            lay.add(lay.image([A], media))
            out = self.opens("oci:" + lay.path, [A])
            seen.add((out["layers"][0]["path"], os.stat(out["layers"][0]["path"]).st_ino))
        self.assertEqual(len(seen), 1)

    def test_cached_layer_is_not_read(self):
        lay = Layout(self.path("l"))
        lay.add(lay.image([A, B]))
        self.opens("oci:" + lay.path, [A, B])
        os.unlink(lay.blob_path(sha(pack(A, GZIP))))
        self.opens("oci:" + lay.path, [A, B])

    def test_config(self):
        lay = Layout(self.path("l"))
        lay.add(lay.image([A], conf=config([A], config={
            "Entrypoint": ["/e", "x y"], "Cmd": ["c"], "Env": ["P=1", "Q=", "P=2"],
            "WorkingDir": "/w", "User": "1000:1000", "StopSignal": "9", "Labels": {"a": "b"}})))
        out = self.opens("oci:" + lay.path)
        self.assertEqual((out["entrypoint"], out["cmd"], out["env"], out["working_dir"],
                          out["user"]), (["/e", "x y"], ["c"], ["P=2", "Q="], "/w", "1000:1000"))

    def test_empty_and_repeated_layers(self):
        lay = Layout(self.path("l"))
        lay.add(lay.image([A, EMPTY, A, b"\0" * 1024]))
        self.opens("oci:" + lay.path, [A, EMPTY, A, b"\0" * 1024])

    def test_64_layers(self):
        lay = Layout(self.path("l"))
        layers = [tar([(f"f{i}", b"%d" % i)]) for i in range(64)]
        lay.add(lay.image(layers))
        self.opens("oci:" + lay.path, layers)

    def test_tags(self):
        lay = Layout(self.path("l"))
        lay.add(lay.image([A]), tag="v1").add(lay.image([B]), tag="latest")
        self.opens(f"oci:{lay.path}:v1", [A])
        self.opens(f"oci:{lay.path}:latest", [B])
        self.opens(f"oci:{lay.path}", [B])

    def test_multi_arch(self):
        lay = Layout(self.path("l"))
        arm = lay.image([B], conf=config([B], architecture="arm64"))
        junk = {"mediaType": MANIFEST, "digest": sha(b"gone"), "size": 4}
        attestation = dict(junk, platform=platform("unknown", "unknown"),
                           annotations={"vnd.docker.reference.type": "attestation-manifest"})
        index = lay.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            dict(arm, platform=platform("linux", "arm64")),
            dict(junk, platform=platform("linux", "amd64", variant="v4")), attestation,
            dict(lay.image([A]), platform=platform("linux", "amd64"))]}, INDEX)
        lay.add(index, tag="t")
        self.opens(f"oci:{lay.path}:t", [A])
        # an index in an index
        lay.entries = []
        lay.add(lay.blob({"schemaVersion": 2, "manifests": [index]}, INDEX))
        self.opens(f"oci:{lay.path}", [A])
        # the platforms in index.json itself
        lay.entries = []
        lay.add(arm, tag="t", platform=platform("linux", "arm64"))
        lay.add(lay.image([A]), tag="t", platform=platform("linux", "amd64"))
        self.opens(f"oci:{lay.path}:t", [A])

    def test_docker_types(self):
        lay = Layout(self.path("l"))
        gz = pack(A, GZIP)
        m = {"schemaVersion": 2, "mediaType": DOCKER + "distribution.manifest.v2+json",
             "config": lay.blob(config([A]), DOCKER + "container.image.v1+json"),
             "layers": [lay.blob(gz, DOCKER + "image.rootfs.diff.tar.gzip")]}
        lay.add(lay.blob({"schemaVersion": 2,
                          "mediaType": DOCKER + "distribution.manifest.list.v2+json", "manifests": [
                              dict(lay.blob(m, m["mediaType"]),
                                   platform=platform("linux", "amd64"))]},
                         DOCKER + "distribution.manifest.list.v2+json"))
        self.opens("oci:" + lay.path, [A])

    def test_symlinked_blobs(self):
        lay = Layout(self.path("l"))
        lay.add(lay.image([A]))
        os.rename(lay.path + "/blobs", self.path("shared"))
        os.symlink("../shared", lay.path + "/blobs")
        self.opens("oci:" + lay.path, [A])


class OtherTools(ImageCase):
    def tool(self, *argv):
        r = subprocess.run(argv, capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)

    def umoci_image(self):
        lay = self.path("u")
        self.tool("umoci", "init", "--layout", lay)
        self.tool("umoci", "new", "--image", lay + ":t")
        for i in range(3):
            bundle = self.path(f"bundle{i}")
            self.tool("umoci", "unpack", "--rootless", "--image", lay + ":t", bundle)
            with open(f"{bundle}/rootfs/file{i}", "wb") as f:
                f.write(os.urandom(200000))
            if i:
                os.unlink(f"{bundle}/rootfs/file{i - 1}")
            self.tool("umoci", "repack", "--image", lay + ":t", bundle)
        self.tool("umoci", "config", "--image", lay + ":t", "--config.entrypoint", "/x",
                  "--config.env", "K=V", "--config.workingdir", "/w", "--config.user", "1:2")
        return lay

    def test_umoci_and_skopeo(self):
        lay = self.umoci_image()
        first = self.opens(f"oci:{lay}:t")
        self.assertEqual(len(first["layers"]), 3)
        self.assertEqual((first["entrypoint"], first["working_dir"], first["user"]),
                         (["/x"], "/w", "1:2"))
        self.assertIn("K=V", first["env"])
        ids = [x["diff_id"] for x in first["layers"]]

        archive = self.path("d.tar")
        self.tool("skopeo", "copy", f"oci:{lay}:t", f"docker-archive:{archive}:foo:bar")
        for ref in (archive, archive + ":foo:bar", archive + ":docker.io/library/foo:bar"):
            shutil.rmtree(self.store)
            out = self.opens("docker-archive:" + ref)
            self.assertEqual([x["diff_id"] for x in out["layers"]], ids)

        zstd = self.path("z")
        self.tool("skopeo", "copy", "--dest-compress-format", "zstd", f"oci:{lay}:t",
                  f"oci:{zstd}:t")
        with open(zstd + "/index.json") as f:
            entry = json.load(f)["manifests"][0]
        with open(zstd + "/blobs/sha256/" + entry["digest"][7:]) as f:
            self.assertIn("+zstd", f.read())
        shutil.rmtree(self.store)
        out = self.opens(f"oci:{zstd}")
        self.assertEqual([x["diff_id"] for x in out["layers"]], ids)

        oci_tar = self.path("o.tar")
        self.tool("skopeo", "copy", f"oci:{lay}:t", f"oci-archive:{oci_tar}:t")
        shutil.rmtree(self.store)
        out = self.opens("docker-archive:" + oci_tar)
        self.assertEqual([x["diff_id"] for x in out["layers"]], ids)


class DockerArchive(ImageCase):
    def test_styles(self):
        for style in ("old", "link", "new"):
            for last in (True, False):
                shutil.rmtree(self.store, ignore_errors=True)
                docker_archive(self.path("d.tar"), [A, B], style=style, last=last)
                self.opens("docker-archive:" + self.path("d.tar"), [A, B])

    def test_links(self):
        """A layer through links: in its folder, up and down, absolute, hard, several hops."""
        for links in ([("k/l", "real")], [("k/l", "../k/./real")], [("k/l", "/k//real")],
                      [("k/l", "m"), ("k/m", "n"), ("k/n", "real")], [("./k/l", "../k/x/../real")]):
            shutil.rmtree(self.store, ignore_errors=True)
            with open(self.path("d.tar"), "wb") as f:
                f.write(tar([("manifest.json", doc([{"Config": "c", "Layers": ["k/l"]}])),
                             ("c", doc(config([A]))), *links, ("k/real", A)]))
            self.opens("docker-archive:" + self.path("d.tar"), [A])

    def test_compressed_layers(self):
        for style in ("old", "new"):
            for media in (GZIP, ZSTD):
                shutil.rmtree(self.store, ignore_errors=True)
                docker_archive(self.path("d.tar"), [pack(A, media), B], style=style,
                               conf=config([A, B]))
                self.opens("docker-archive:" + self.path("d.tar"), [A, B])

    def test_compressed_archive_and_pipe(self):
        docker_archive(self.path("d.tar"), [A, B], style="link")
        with open(self.path("d.tar"), "rb") as f:
            data = f.read()
        for name, packed in (("gz", gzip.compress(data)), ("xz", lzma.compress(data)),
                             ("zst", pack(data, ZSTD))):
            shutil.rmtree(self.store, ignore_errors=True)
            with open(self.path(name), "wb") as f:
                f.write(packed)
            self.opens("docker-archive:" + self.path(name), [A, B])
            self.assertEqual(os.listdir(self.store + "/tmp"), [])
        for content in (data, gzip.compress(data)):
            shutil.rmtree(self.store, ignore_errors=True)
            if not os.path.exists(self.path("fifo")):
                os.mkfifo(self.path("fifo"))

            def feed():
                with open(self.path("fifo"), "wb") as f:
                    f.write(content)
            t = threading.Thread(target=feed)
            t.start()
            self.opens("docker-archive:" + self.path("fifo"), [A, B])
            t.join()

    def test_several_images(self):
        p = self.path("d.tar")
        c = doc(config([A])), doc(config([B]))
        names = [sha(x)[7:] + ".json" for x in c]
        with open(p, "wb") as f:
            f.write(tar([("a.tar", A), ("b.tar", B), (names[0], c[0]), (names[1], c[1]),
                         ("manifest.json", doc([
                             {"Config": names[0], "RepoTags": ["a:1", "a:latest"],
                              "Layers": ["a.tar"]},
                             {"Config": names[1], "RepoTags": ["docker.io/x/b:2"],
                              "Layers": ["b.tar"]}]))]))
        self.opens(f"docker-archive:{p}:a", [A])
        self.opens(f"docker-archive:{p}:a:1", [A])
        self.opens(f"docker-archive:{p}:x/b:2", [B])
        shutil.rmtree(self.store)
        self.refused(f"docker-archive:{p}", "several images", "a:1", "x/b:2")
        self.refused(f"docker-archive:{p}:b:2", "no image b:2", "a:1")

    def test_wrong(self):
        p = self.path("d.tar")
        ref = "docker-archive:" + p
        docker_archive(p, [A], names=["l.tar"], extra=[("ünï/\xff" * 40, b""), ("d", "x")])
        self.opens(ref, [A])
        shutil.rmtree(self.store)

        docker_archive(p, [A], conf=config([B]))
        self.refused(ref, "layer.tar", "diff id", sha(A), sha(B))
        docker_archive(p, [A], names=["blobs/sha256/" + sha(B)[7:]], style="new")
        self.refused(ref, sha(B), "does not match its digest", sha(A))
        docker_archive(p, [pack(A, GZIP)[:-9]], conf=config([A]))
        self.refused(ref, "layer.tar")
        with open(p, "wb") as f:
            f.write(tar([("manifest.json", doc([{"Config": "c.json", "Layers": ["l"]}]))]))
        self.refused(ref, "c.json")
        with open(p, "wb") as f:
            f.write(tar([("manifest.json", doc([{"Config": "0" * 64 + ".json", "Layers": ["l"]}])),
                         ("0" * 64 + ".json", doc(config([A])))]))
        self.refused(ref, "config sha256:" + "0" * 64, "does not match")
        with open(p, "wb") as f:
            f.write(tar([("manifest.json", doc([{"Config": "c.json", "Layers": ["l"]}])),
                         ("c.json", doc(config([A])))]))
        self.refused(ref, "layer l is missing")
        # links that loop, dangle or lead out
        for target in ("l", "m", "../../../../etc/passwd", "/etc/passwd"):
            with open(p, "wb") as f:
                f.write(tar([("manifest.json", doc([{"Config": "c.json", "Layers": ["l"]}])),
                             ("c.json", doc(config([A]))), ("l", target), ("m", "l")]))
            self.refused(ref, "layer l is missing")
        for text in (b"", b"[]", b"{}", b"[1]", b"[{}]", b"[{\"Config\":1}]", b"nonsense"):
            with open(p, "wb") as f:
                f.write(tar([("manifest.json", text)]))
            self.refused(ref, "manifest.json")
        with open(p, "wb") as f:
            f.write(tar([("hello", b"x")]))
        self.refused(ref, "not a docker-save archive")
        docker_archive(p, [A])
        with open(p, "rb") as f:
            data = f.read()
        with open(p, "wb") as f:
            f.write(data[:5000])
        self.refused(ref, p, "tar archive")
        for text in (b"", b"hello world", os.urandom(5000), gzip.compress(b"hello" * 500),
                     gzip.compress(data)[:-100]):
            with open(p, "wb") as f:
                f.write(text)
            self.refused(ref, p)
        self.refused("docker-archive:" + self.dir, "folder", "oci:")
        self.refused("docker-archive:" + self.path("gone"), "gone", "No such file")


class Refused(ImageCase):
    def setUp(self):
        super().setUp()
        self.lay = Layout(self.path("l"))
        self.ref = "oci:" + self.lay.path

    def test_references(self):
        self.lay.add(self.lay.image([A]), tag="v1").add(self.lay.image([B]), tag="v2")
        self.refused("Alpine", "image Alpine", "lower-case letters")
        self.refused(self.lay.path, "did you mean oci:")
        self.refused(self.dir, "not an OCI layout")
        self.refused(TOOL, "did you mean docker-archive:")
        self.refused("oci:" + self.path("gone"), "gone", "No such file")
        self.refused("oci:" + TOOL, "is a file", "docker-archive:")
        self.refused("oci:" + self.dir, "not an OCI layout", "oci-layout")
        self.refused(self.ref + ":v3", "no image v3", "v1, v2")
        self.refused(self.ref, "several images", "v1, v2")
        r = subprocess.run([TOOL, "busybox", self.store], capture_output=True, text=True)
        self.assertEqual(r.returncode, 125)
        self.assertIn("not installed", r.stderr)

    def flip(self, digest, at):
        p = self.lay.blob_path(digest)
        with open(p, "r+b") as f:
            data = bytearray(f.read())
            data[at] ^= 1
            f.seek(0)
            f.write(data)

    def test_broken_digests(self):
        for media in (TAR, GZIP, ZSTD):
            for at in (0, 3, 50, -1):
                shutil.rmtree(self.lay.path)
                lay = self.lay = Layout(self.path("l"))
                lay.add(lay.image([A], media))
                digest = sha(pack(A, media))
                self.flip(digest, at)
                self.refused(self.ref, "layer " + digest, "does not match its digest")
        lay.add(lay.image([A]), tag="x")
        d = lay.entries[-1]["digest"]
        self.flip(d, 5)
        self.refused(self.ref + ":x", "manifest " + d, "does not match its digest")
        self.flip(d, 5)
        c = sha(doc(config([A])))
        self.flip(c, 5)
        self.refused(self.ref + ":x", "config " + c, "does not match its digest")

    def test_sizes(self):
        lay, digest = self.lay, sha(pack(A, GZIP))
        lay.add(lay.image([A]))
        p = lay.blob_path(digest)
        with open(p, "rb") as f:
            data = f.read()
        for cut in (0, 1, 10, len(data) - 1):
            with open(p, "wb") as f:
                f.write(data[:cut])
            self.refused(self.ref, "layer " + digest, "truncated")
        with open(p, "wb") as f:
            f.write(data + b"x")
        self.refused(self.ref, "layer " + digest, f"{len(data) + 1} bytes instead of {len(data)}")
        os.unlink(p)
        self.refused(self.ref, "layer " + digest, "missing")
        os.mkdir(p)
        self.refused(self.ref, digest[7:], "not a regular file")
        os.rmdir(p)
        os.mkfifo(p)
        self.refused(self.ref, digest[7:], "not a regular file")
        os.unlink(p)
        os.symlink("/dev/zero", p)
        self.refused(self.ref, digest[7:], "not a regular file")
        m = lay.entries[0]
        m["size"] += 1
        lay.write("index.json", {"schemaVersion": 2, "manifests": [m]})
        self.refused(self.ref, "manifest " + m["digest"], "bytes instead of")
        os.unlink(lay.blob_path(m["digest"]))
        self.refused(self.ref, "manifest " + m["digest"], "missing")

    def test_honestly_wrong_layers(self):
        """Right digests, wrong content."""
        lay = self.lay
        bad = pack(A, GZIP)[:-20]
        m = {"schemaVersion": 2, "config": lay.blob(config([A]), CONFIG),
             "layers": [lay.blob(bad, GZIP)]}
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, "layer " + sha(bad))
        m["layers"] = [lay.blob(b"not gzip at all", GZIP)]
        lay.entries = []
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, "layer " + sha(b"not gzip at all"))
        m["layers"] = [lay.blob(pack(B, GZIP), GZIP)]
        lay.entries = []
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, sha(pack(B, GZIP)), "diff id", sha(A))
        # the first layer is good and may stay; the second is not
        lay.entries = []
        lay.add(lay.image([A, A], conf=config([A, B])))
        self.refused(self.ref, "diff id", sha(B), nothing=False)
        self.assertEqual(self.stored(), [sha(A)[7:] + ".erofs"])

    def test_counts(self):
        for layers, conf in (([A], [A, B]), ([A, B], [A]), ([A], [])):
            self.lay.entries = []
            self.lay.add(self.lay.image(layers, conf=config(conf)))
            self.refused(self.ref, f"{len(layers)} layers", f"{len(conf)} diff_ids")
        self.lay.entries = []
        self.lay.add(self.lay.image([]))
        self.refused(self.ref, "no layers")
        self.lay.entries = []
        self.lay.add(self.lay.image([EMPTY] * 65))
        self.refused(self.ref, "65 layers", "limit is 64")

    def test_platforms(self):
        lay = self.lay
        lay.add(lay.image([A], conf=config([A], architecture="arm64")))
        self.refused(self.ref, "the image is for linux/arm64", "linux/amd64")
        lay.entries = []
        lay.add(lay.image([A], conf=config([A], os="windows")))
        self.refused(self.ref, "windows/amd64")
        # the index promises amd64, the config says otherwise
        lay.entries = []
        lay.add(lay.image([A], conf=config([A], architecture="s390x")),
                platform=platform("linux", "amd64"))
        self.refused(self.ref, "linux/s390x")
        lay.entries = []
        lay.add(lay.image([A]), platform=platform("linux", "arm", variant="v7"))
        lay.add(lay.image([A]), platform=platform("linux", "ppc64le"))
        self.refused(self.ref, "linux/arm/v7", "linux/ppc64le", "no image for linux/amd64")

    def test_media_types(self):
        lay = self.lay
        m = {"schemaVersion": 2, "config": lay.blob(config([A]), CONFIG),
             "layers": [lay.blob(A, "application/x-squashfs")]}
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, "layer " + sha(A), "unknown media type application/x-squashfs")
        m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
        lay.entries = []
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, "application/vnd.oci.empty.v1+json", "not a container image")
        lay.entries = []
        lay.add(lay.blob(m, "application/x-thing"))
        self.refused(self.ref, "application/x-thing")
        lay.entries = []
        lay.add(lay.blob(m, DOCKER + "distribution.manifest.v1+prettyjws"))
        self.refused(self.ref, "schema 1")
        m["layers"] = [{"mediaType": OCI + "layer.nondistributable.v1.tar", "digest": sha(b"q"),
                        "size": 1, "urls": ["http://127.0.0.1/q"]}]
        m["config"]["mediaType"] = CONFIG
        lay.entries = []
        lay.add(lay.blob(m, MANIFEST))
        self.refused(self.ref, "missing", "foreign")

    def test_ambiguous_documents(self):
        """CVE-2021-41190."""
        lay = self.lay
        good = lay.image([A])
        for more in ({"manifests": []}, {"manifests": [good]}, {"mediaType": INDEX}):
            lay.entries = []
            lay.add(lay.image([A], **more))
            self.refused(self.ref, "manifest sha256:")
        lay.entries = []
        lay.add(lay.blob({"schemaVersion": 2, "manifests": [good], "layers": []}, INDEX))
        self.refused(self.ref, "index sha256:", "ambiguous")
        lay.entries = []
        lay.add(dict(good, mediaType=INDEX))
        self.refused(self.ref, "index sha256:")
        lay.write("index.json", {"schemaVersion": 2, "config": {}, "layers": []})
        self.refused(self.ref, "index.json")

    def test_documents(self):
        lay = self.lay
        d = lay.image([A])
        deep = lay.blob({"schemaVersion": 2, "manifests": [d]}, INDEX)
        for _ in range(6):
            deep = lay.blob({"schemaVersion": 2, "manifests": [deep]}, INDEX)
        lay.add(deep)
        self.refused(self.ref, "nested deeper")
        for text, word in ((b"", "JSON"), (b"{", "JSON"), (b"[" * 100000, "nested deeper"),
                           (b'{"a":1,"a":2}', "duplicate"), (b" " * (5 << 20), "larger"),
                           (doc({"schemaVersion": 2, "manifests": []}), "no image"),
                           (doc({"schemaVersion": 2, "manifests": [dict(d, digest="sha256:../x")]}),
                            "not a sha256 digest"),
                           (doc({"schemaVersion": 2, "manifests": [dict(d, digest="sha512:" + "0" *
                                                                        128)]}), "sha512")):
            lay.write("index.json", text)
            self.refused(self.ref, "index.json", word)
        os.unlink(lay.path + "/index.json")
        self.refused(self.ref, "index.json", "No such file")
        lay.write("oci-layout", {"imageLayoutVersion": "2.0.0"})
        self.refused(self.ref, "OCI layout version 2.0.0")
        lay.write("oci-layout", b"x")
        self.refused(self.ref, "oci-layout")
        # a big config: described as such, and described as small
        lay.write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        lay.entries = []
        lay.add(lay.image([A], conf=config([A], junk="x" * (5 << 20))))
        self.refused(self.ref, "config sha256:", "larger than the limit")

    def test_config_data(self):
        for c in ({"WorkingDir": "relative"}, {"Env": ["x"]}, {"Env": ["=x"]}, {"Cmd": "sh"},
                  {"Cmd": ["a\0b"]}, {"Cmd": ["a"] * 5000}, {"Env": ["A=" + "x" * (1 << 20)]},
                  {"User": "u" * 300}):
            self.lay.entries = []
            self.lay.add(self.lay.image([A], conf=config([A], config=c)))
            self.refused(self.ref, "config sha256:")

    def test_hostile_layer_names_stay_inside(self):
        evil = tar([("../../../../../../tmp/sm-escaped", b"x"), ("/tmp/sm-escaped", b"x"),
                    ("l", "/tmp"), ("l/sm-escaped", b"x")])
        self.lay.add(self.lay.image([evil]))
        self.run_tool(self.ref)
        self.assertFalse(os.path.exists("/tmp/sm-escaped"))

    def test_terminal_escapes_in_names(self):
        self.lay.add(self.lay.image([A]), tag="x\x1b[31m\ny").add(self.lay.image([B]), tag="z")
        self.assertNotIn("\x1b", self.refused(self.ref, "several images"))


class Mutated(ImageCase):
    def test_random_bytes(self):
        """Flip, cut and repeat bytes anywhere: opened or refused in one line, never a crash."""
        rng = random.Random(7)
        lay = Layout(self.path("l"))
        lay.add(lay.image([A, B], [GZIP, ZSTD]), tag="t", platform=platform("linux", "amd64"))
        docker_archive(self.path("d.tar"), [pack(A, GZIP), B], conf=config([A, B]), style="link")
        names = [os.path.join(r, f) for r, _, fs in os.walk(lay.path) for f in fs]
        cases = [(n, "oci:" + lay.path) for n in sorted(names)]
        cases += [(self.path("d.tar"), "docker-archive:" + self.path("d.tar"))] * 6
        for i in range(240):
            name, ref = cases[i % len(cases)]
            with open(name, "rb") as f:
                data = f.read()
            bad = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8))):
                kind, at = rng.randrange(4), rng.randrange(len(bad) or 1)
                if kind == 0 and bad:
                    bad[at] = rng.randrange(256)
                elif kind == 1:
                    del bad[at:at + rng.choice((1, 512))]
                elif kind == 2:
                    bad[at:at] = bad[at:at + rng.choice((1, 512))]
                elif bad:
                    bad[at] ^= 1 << rng.randrange(8)
            with open(name, "wb") as f:
                f.write(bad)
            r = self.run_tool(ref)
            self.assertIn(r.returncode, (0, 125), f"mutation {i} of {name}: {r.stderr}")
            self.assertLessEqual(r.stderr.count("\n"), 1, r.stderr)
            self.assertEqual(os.listdir(self.store + "/tmp"), [])
            for stored in self.stored():
                self.assertIn("sha256:" + stored[:64], (sha(A), sha(B)))
            with open(name, "wb") as f:
                f.write(data)
            if i % 2:
                shutil.rmtree(self.store)


if __name__ == "__main__":
    run_tests()
