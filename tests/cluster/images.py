"""Images without a registry: made here, kept as archives in the cache, given to each node's containerd."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.tools import cache_folder

from .built import program

PAUSE = "handfast.test/pause:1"
COREDNS = "handfast.test/coredns:1"
OPERATOR = "handfast.test/operator:1"
OPERATOR_2 = "handfast.test/operator:2"
TUNNEL = "handfast.test/tunnel:1"
TUNNEL_2 = "handfast.test/tunnel:2"
WORKLOAD = "handfast.test/workload:1"
WORKLOAD_2 = "handfast.test/workload:2"
"""The same images under another name, for tests of rollouts, upgrades and patches."""

_ROOT = Path(__file__).parents[2]
_WORKLOAD = Path(__file__).with_name("workload")
_MEGABYTE = 1_000_000
_KEPT = 3 * 24 * 3600
"""Seconds."""
# What the image of this name is made of elsewhere. Equal packages give equal bytes.
BASE = "docker.io/library/debian:bookworm-slim"
_BASE_OPTIONS = (
    "--quiet",
    "--mode=root",
    "--variant=apt",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    # Bootstrapping chooses the package that moves directories, and all of Perl for that.
    '--customize-hook=chroot "$1" apt-get -qq --yes install usr-is-merged usrmerge-',
    '--customize-hook=chroot "$1" apt-get -qq --yes purge "lib.*-perl$" "libperl5.*" "perl-modules-.*" perl$',
)
_BASE_DATE = "1700000000"


@dataclass(frozen=True)
class Recipe:
    """An image of the project: a target of the Dockerfile in `folder`, and what of `folder` goes into it."""

    names: tuple[str, ...]
    folder: Path
    target: str
    sources: tuple[str, ...]
    """Files, and folders whose Python files and wheels count."""
    aim: int
    """So many megabytes it should not exceed."""

    def key(self, base: str) -> str:
        content = hashlib.sha256(repr((base, self.names, self.target)).encode())
        for path in self._files():
            content.update(str(path.relative_to(self.folder)).encode() + b"\0" + path.read_bytes())
        return content.hexdigest()[:16]

    def _files(self) -> Iterable[Path]:
        for source in ("Dockerfile", *self.sources):
            path = self.folder / source
            yield from sorted((*path.rglob("*.py"), *path.rglob("*.whl"))) if path.is_dir() else [path]


_TUNNEL_SOURCES = (
    *("pyproject.toml", "uv.lock", "README.md", "LICENSE", "CHANGELOG.md"),
    *("scripts/pins", "scripts/image/slim-libraries", "scripts/image/slim-system"),
    "tunnel/handfast_tunnel",
)
_OPERATOR_SOURCES = (*_TUNNEL_SOURCES, "operator/handfast_operator")
WHEELS = _ROOT / "scripts/image/wheels"
"""What images have of the compiled data plane."""
RECIPES = (
    Recipe((OPERATOR, OPERATOR_2), _ROOT, "operator", _OPERATOR_SOURCES, 200),
    Recipe((TUNNEL, TUNNEL_2), _ROOT, "tunnel", (*_TUNNEL_SOURCES, "scripts/image/wheels"), 120),
    Recipe((WORKLOAD, WORKLOAD_2), _WORKLOAD, "workload", ("workload.py",), 120),
)


@dataclass(frozen=True)
class Image:
    """An image as a file that containerd imports, and all names that it is to have there."""

    names: tuple[str, ...]
    archive: Path


def of_system() -> list[Image]:
    """Those without which no node works."""
    programs = {PAUSE: program("pause"), COREDNS: program("coredns")}
    return [Image((name,), _static_image(_folder(), name, binary)) for name, binary in programs.items()]


def of_project() -> list[Image]:
    """Those that are made of Dockerfiles; what is missing is built."""
    _run([str(_ROOT / "scripts/native-wheel")])
    return [Image(recipe.names, _recipe_image(_folder(), recipe)) for recipe in RECIPES]


def _folder() -> Path:
    folder = cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _static_image(folder: Path, name: str, binary: Path) -> Path:
    """An image of one program that needs nothing else."""
    content = binary.read_bytes()
    archive = folder / f"{binary.name}-{hashlib.sha256(name.encode() + content).hexdigest()[:16]}.tar"
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
    return unfinished.rename(archive)


def _tar(files: dict[str, bytes]) -> bytes:
    """Equal files give equal archives: owners, times and order are fixed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _recipe_image(folder: Path, recipe: Recipe) -> Path:
    base = hashlib.sha256(repr((_BASE_OPTIONS, _BASE_DATE)).encode()).hexdigest()[:16]
    title = recipe.names[0].partition("/")[2].partition(":")[0]
    archive = folder / f"{title}-{recipe.key(base)}.tar"
    if archive.exists():
        archive.touch()  # It is in use.
        return archive
    _remove_old(folder, title)
    _provide_base(folder / f"base-{base}.tar")
    print(f"# building the image {recipe.names[0]}")
    authorities = "/usr/local/share/ca-certificates"  # Those that this machine trusts besides Debian's.
    volume = [f"--volume={authorities}:{authorities}:ro"] if Path(authorities).is_dir() else []
    file = ["--target", recipe.target, "--tag", recipe.names[0], str(recipe.folder)]
    _buildah("build", "--isolation=chroot", "--layers", "--pull-never", *volume, *file)
    unfinished = archive.with_suffix(f".{os.getpid()}")
    _buildah("push", "--quiet", recipe.names[0], f"docker-archive:{unfinished}:{recipe.names[0]}")
    size = unfinished.stat().st_size / _MEGABYTE
    print(f"# {recipe.names[0]} has {size:.0f} MB; the aim is {recipe.aim} MB or less")
    return unfinished.rename(archive)


def _remove_old(folder: Path, title: str) -> None:
    """Remove archives of earlier contents that no checkout has used for a while."""
    for archive in folder.glob(f"{title}-*"):
        if archive.stat().st_mtime < time.time() - _KEPT:
            archive.unlink()


def _provide_base(archive: Path) -> None:
    """Put the base image where Dockerfiles find it."""
    if not archive.exists():
        print("# making the base image from Debian's packages")
        unfinished = archive.with_name(f"{os.getpid()}.{archive.name}")
        command = ["unshare", "--mount", "--", "mmdebstrap", *_BASE_OPTIONS, "bookworm", str(unfinished)]
        _run(command, {**os.environ, "SOURCE_DATE_EPOCH": _BASE_DATE})
        unfinished.rename(archive)
    if _buildah("images", "--quiet", "--filter", f"label=key={archive.stem}", BASE, check=False):
        return
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f'FROM scratch\nADD {archive.name} /\nCMD ["bash"]\n')
        file.flush()
        options = ["--layers=false", f"--label=key={archive.stem}", "--tag", BASE, "--file", file.name]
        _buildah("build", "--isolation=chroot", *options, str(archive.parent))


def _buildah(*arguments: str, check: bool = True) -> str:
    store = cache_folder() / "images" / "store"
    # Its mounts are nobody else's business, and end with it.
    command = ["unshare", "--mount", "--", "buildah", f"--root={store}", f"--runroot={store}-run"]
    return _run([*command, "--storage-driver=overlay", *arguments], check=check)


def _run(command: list[str], environment: dict[str, str] | None = None, *, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if check and done.returncode:
        output = (done.stdout + done.stderr)[-4000:]
        raise ImageError(f"{' '.join(command)}: exit status {done.returncode}\n{output}")
    return done.stdout.strip() if not done.returncode else ""


class ImageError(Exception):
    """An image could not be made."""
