"""Debian packages without installing them: apt with a configuration and lists of its own, so no root is needed.

apt verifies signatures with Debian's keyring."""

import os
import subprocess
import tempfile
from pathlib import Path

from .system import cache_directory

ARCHIVE = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main"


class Unavailable(RuntimeError):
    """apt could not download what was asked for."""


def download(work: Path, *command: str) -> None:
    """Run `apt-get COMMAND` in the empty directory `work`, where it puts what it downloads."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb {ARCHIVE}\ndeb-src {ARCHIVE}\n")
    options = {"Dir::Etc::SourceList": work / "sources.list", "Dir::Etc::SourceParts": "/dev/null", "Dir::State::Lists": work / "lists",
               "Dir::Cache": work / "cache", "APT::Sandbox::User": ""}
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    for arguments in (["update", "--error-on=any"], command):
        done = subprocess.run([*apt, *arguments], cwd=work, env=os.environ | {"LC_ALL": "C.UTF-8"}, capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable(f"apt-get {' '.join(arguments)} failed\n{done.stdout}{done.stderr}")


def cached(name: str, make) -> Path:
    """The directory `name` of the cache. If it isn't there, make(work, made) fills the directory `made`."""
    place = cache_directory() / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="new-") as work:
            made = Path(work) / "made"
            made.mkdir()
            (Path(work) / "apt").mkdir()
            make(Path(work) / "apt", made)
            try:
                made.rename(place)
            except OSError:
                if not place.exists():  # another run was faster
                    raise
    return place


def unpacked(name: str, *packages: str) -> Path:
    """The files of binary packages, in a directory of the cache."""
    def make(work, made):
        download(work, "download", *packages)
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, made], check=True)

    return cached(name, make)
