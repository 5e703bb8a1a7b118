# SPDX-License-Identifier: Apache-2.0
"""Making images for tests: OCI layouts and docker-save archives, right and wrong, byte by byte."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import unittest

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
MANIFEST = OCI + "manifest.v1+json"
INDEX = OCI + "index.v1+json"
CONFIG = OCI + "config.v1+json"
TAR, GZIP, ZSTD = (OCI + "layer.v1.tar" + s for s in ("", "+gzip", "+zstd"))


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def doc(value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def tar(files, fmt=tarfile.PAX_FORMAT):
    """A tar of (name, bytes) pairs; a str instead of bytes is a symbolic link's target."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=fmt) as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                t.addfile(info)
            else:
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def pack(data, media):
    if media.endswith("gzip"):
        return gzip.compress(data, mtime=0)
    if media.endswith("zstd"):
        return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    return data


def config(layers, **more):
    c = {"os": "linux", "architecture": "amd64",
         "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]},
         "rootfs": {"type": "layers", "diff_ids": [sha(x) for x in layers]}}
    c.update(more)
    return c


class Layout:
    def __init__(self, path):
        self.path = path
        os.makedirs(path + "/blobs/sha256")
        self.write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self.entries = []

    def write(self, name, value):
        with open(f"{self.path}/{name}", "wb") as f:
            f.write(doc(value))

    def blob_path(self, digest):
        return f"{self.path}/blobs/sha256/{digest.split(':')[1]}"

    def blob(self, value, media, **more):
        data = doc(value)
        self.write("blobs/sha256/" + sha(data)[7:], data)
        return {"mediaType": media, "digest": sha(data), "size": len(data), **more}

    def image(self, layers, media=GZIP, conf=None, **more):
        """Add an image of these tars; returns the descriptor of its manifest. more goes into the
        manifest."""
        kinds = media if isinstance(media, list) else [media] * len(layers)
        m = {"schemaVersion": 2,
             "config": self.blob(conf if conf is not None else config(layers), CONFIG),
             "layers": [self.blob(pack(x, k), k) for x, k in zip(layers, kinds)]}
        m.update(more)
        return self.blob(m, MANIFEST)

    def add(self, descriptor, tag=None, **more):
        """Put a descriptor into index.json."""
        d = dict(descriptor, **more)
        if tag:
            d["annotations"] = {"org.opencontainers.image.ref.name": tag}
        self.entries.append(d)
        self.write("index.json", {"schemaVersion": 2, "manifests": self.entries})
        return self


def platform(os_name, arch, **more):
    return {"os": os_name, "architecture": arch, **more}


def docker_archive(path, layers, names=None, conf=None, tags=("foo:bar",), style="old", last=True,
                   extra=()):
    """What `docker save` writes. style: old (ID/layer.tar), link (skopeo's and old Docker's links),
    new (blobs/sha256/..., since Docker 25). layers are the bytes as stored."""
    c = doc(conf if conf is not None else config(layers))
    files = []
    if style == "new":
        names = names or ["blobs/sha256/" + sha(x)[7:] for x in layers]
        c_name = "blobs/sha256/" + sha(c)[7:]
        files += list(zip(names, layers))
    else:
        names = names or [f"{i:064x}/layer.tar" for i in range(len(layers))]
        c_name = sha(c)[7:] + ".json"
        for i, (name, x) in enumerate(zip(names, layers)):
            if style == "link":
                files.append((name, f"../real-{i}.tar"))
                files.append((f"real-{i}.tar", x))
            else:
                files.append((name, x))
    files.append((c_name, c))
    m = ("manifest.json", doc([{"Config": c_name, "RepoTags": list(tags) if tags else None,
                                "Layers": names}]))
    files = files + [m] if last else [m] + files
    with open(path, "wb") as f:
        f.write(tar(files + list(extra)))


def run_tests():
    """Run the calling script's tests: TOOL [NAME...]. Says what was skipped and why; 77 if all was."""
    done = unittest.main(argv=sys.argv[:1] + sys.argv[2:], exit=False).result
    for test, reason in done.skipped:
        print(f"SKIP {test.id()}: {reason}")
    if not done.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if done.testsRun and len(done.skipped) == done.testsRun else 0)
