"""A private PostgreSQL 15 installation that holds one build of the extension.

A server finds its library and share directories relative to its own binary, so a tree of the same layout is an
installation of its own. Tests therefore never write to the system's directories, where a library that a running server
has mapped could be overwritten.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import system

MAJOR = 15
LIBRARY = Path("usr/lib/postgresql") / str(MAJOR)
SHARE = Path("usr/share/postgresql") / str(MAJOR)
PG_CONFIG = Path("/") / LIBRARY / "bin" / "pg_config"


class Prefix:
    """An installation below `directory`; `create` makes it, `install` puts an extension's files into it."""

    def __init__(self, directory: Path | str):
        self.directory = Path(directory).absolute()
        self.bin = self.directory / LIBRARY / "bin"
        self.lib = self.directory / LIBRARY / "lib"
        self.share = self.directory / SHARE

    def create(self) -> "Prefix":
        """Copy the system's programs and link its libraries and shared files; a second call changes nothing."""
        if not (Path("/") / LIBRARY / "bin" / "postgres").exists():
            raise RuntimeError(f"PostgreSQL {MAJOR} is not installed in /{LIBRARY}; run scripts/setup.sh")
        for relative in (LIBRARY, SHARE):
            source = Path("/") / relative
            for folder, _, files in os.walk(source):
                target = self.directory / Path(folder).relative_to("/")
                target.mkdir(parents=True, exist_ok=True)
                for name in files:
                    place = target / name
                    if not (place.exists() or place.is_symlink()):
                        # A program must be a real file: a server resolves links to find where it is installed.
                        if target == self.bin:
                            shutil.copy2(Path(folder) / name, place)
                        else:
                            place.symlink_to(Path(folder) / name)
        # Every account must reach it, whatever the umask was.
        for folder in [self.directory, *self.directory.rglob("*")]:
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o755)
        return self

    def install(self, source: Path) -> "Prefix":
        """Install basalt.so, basalt.control and basalt--*.sql from the directory `source`.

        Each file is replaced by a rename: a server that runs keeps the library it has mapped."""
        names = ["basalt.so", "basalt.control"] + sorted(p.name for p in source.glob("basalt--*.sql"))
        if len(names) == 2:
            raise RuntimeError(f"{source} has no basalt--*.sql")
        for stale in (self.share / "extension").glob("basalt--*.sql"):
            if stale.name not in names:
                stale.unlink()
        for name in names:
            place = self.lib / name if name.endswith(".so") else self.share / "extension" / name
            replace_file(source / name, place)
        return self


def replace_file(source: Path, place: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".basalt-")
    os.close(descriptor)
    shutil.copyfile(source, temporary)
    os.chmod(temporary, 0o755 if place.suffix == ".so" else 0o644)
    os.replace(temporary, place)


def build_environment() -> dict:
    environment = dict(os.environ)
    environment["CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND"] = "1"
    if "PGRX_HOME" not in environment and (system.cache_directory() / "pgrx" / "config.toml").exists():
        environment["PGRX_HOME"] = str(system.cache_directory() / "pgrx")
    tools = system.cache_directory() / "tools" / "bin"
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    return environment


def build(output: Path, profile: str, quiet: bool = False) -> None:
    """Build this work tree's extension with cargo and write its library, control file and SQL to `output`.

    `quiet`: show what cargo says only if it fails. The target directory is CARGO_TARGET_DIR, or `target` of the work tree."""
    environment = build_environment()
    target = Path(environment.get("CARGO_TARGET_DIR") or system.REPOSITORY / "target")
    flags = ["--release"] if profile == "release" else []

    def run(*command):
        where = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {"stdout": sys.stderr}
        result = subprocess.run(command, cwd=system.REPOSITORY, env=environment, text=True, **where)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed\n{result.stdout or ''}")

    output.mkdir(parents=True, exist_ok=True)
    run("cargo", "build", "--locked", *flags)
    version = package_version()
    library = target / ("release" if profile == "release" else "debug") / "libbasalt.so"
    # The SQL is read from the library itself, so nothing is compiled a second time.
    run("cargo", "pgrx", "schema", f"pg{MAJOR}", "--skip-build", *flags, "--pg-config", str(PG_CONFIG),
        "--out", str(output / f"basalt--{version}.sql"))
    shutil.copyfile(library, output / "basalt.so")
    control = (system.REPOSITORY / "basalt.control").read_text().replace("@CARGO_VERSION@", version)
    (output / "basalt.control").write_text(control)
    for upgrade in sorted((system.REPOSITORY / "sql").glob("basalt--*--*.sql")):
        shutil.copyfile(upgrade, output / upgrade.name)


def package_version() -> str:
    import tomllib

    manifest = tomllib.loads((system.REPOSITORY / "Cargo.toml").read_text())
    return manifest["workspace"]["package"]["version"]


def default_directory() -> Path:
    """The prefix of this work tree: outside the home directory, where root's files are closed to the server's account."""
    mark = hashlib.sha256(str(system.REPOSITORY).encode()).hexdigest()[:8]
    return Path(os.environ.get("BASALT_TEST_DIRECTORY", "/tmp")) / f"basalt-prefix-{os.geteuid()}-{mark}"


def build_and_install(directory: Path, profile: str, quiet: bool = False) -> Prefix:
    prefix = Prefix(directory).create()
    with tempfile.TemporaryDirectory(prefix="basalt-build-") as output:
        build(Path(output), profile, quiet)
        return prefix.install(Path(output))


def for_tests() -> Prefix:
    """The installation that the tests use: BASALT_PREFIX as it stands; else one made from the files in
    BASALT_LIBRARY_DIR; else this work tree, built now with BASALT_PROFILE (dev unless set)."""
    if "BASALT_PREFIX" in os.environ:
        return Prefix(os.environ["BASALT_PREFIX"])
    if "BASALT_LIBRARY_DIR" in os.environ:
        return Prefix(default_directory()).create().install(Path(os.environ["BASALT_LIBRARY_DIR"]))
    return build_and_install(default_directory(), os.environ.get("BASALT_PROFILE", "dev"), quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="install-prefix", description="Build this work tree's extension and install it into a private PostgreSQL tree."
    )
    parser.add_argument("directory", nargs="?", type=Path, default=default_directory(), help="default: %(default)s")
    parser.add_argument("--profile", choices=["dev", "release"], default="dev")
    arguments = parser.parse_args()
    try:
        print(build_and_install(arguments.directory, arguments.profile).directory)
    except RuntimeError as error:
        sys.exit(str(error))
