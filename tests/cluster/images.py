"""Images without a registry: made here, kept as archives in the cache, given to each node's containerd."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from pathlib import Path

from tests.lab.tools import cache_folder

from .built import program
from .node import PAUSE_IMAGE

COREDNS_IMAGE = "handfast.test/coredns:1"


def static_images() -> list[Path]:
    """Those of one program that needs nothing else."""
    return [_static_image(PAUSE_IMAGE, program("pause")), _static_image(COREDNS_IMAGE, program("coredns"))]


def archives() -> Path:
    """Where they are kept."""
    folder = cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _static_image(name: str, binary: Path) -> Path:
    content = binary.read_bytes()
    key = hashlib.sha256(name.encode() + content).hexdigest()[:16]
    archive = archives() / f"{binary.name}-{key}.tar"
    if archive.exists():
        return archive
    layer = _tar({binary.name: content})
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{binary.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode()}
    unfinished = archive.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(_tar({**files, "layer.tar": layer}))
    unfinished.rename(archive)
    return archive


def _tar(files: dict[str, bytes]) -> bytes:
    """Equal files give equal archives: owners, times and order are fixed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
