"""Where things are, who runs them, and processes in /proc."""

import os
import pwd
import random
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_directory() -> Path:
    """What is downloaded or built once: BASALT_CACHE, or ~/.cache/basalt."""
    return Path(os.environ.get("BASALT_CACHE") or Path.home() / ".cache" / "basalt")


def server_account() -> dict:
    """Popen arguments that make a child run as a user whom PostgreSQL accepts: it refuses to start as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist("postgres", entry.pw_gid)}


def server_environment() -> dict:
    """The environment without variables that would steer a server or client to another place, or add stack traces to
    the details of errors."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "RUST_"))}
    environment |= {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
    if os.geteuid() == 0:
        environment |= {"HOME": "/", "USER": "postgres", "LOGNAME": "postgres"}
    return environment


def give_to_server(path: Path) -> None:
    """Make the server's account the owner of `path`."""
    if os.geteuid() == 0:
        account = server_account()
        os.chown(path, account["user"], account["group"])


def make_directory(label: str) -> Path:
    """A new directory with a short path (a Unix socket's path has at most 107 bytes) that every user may enter.

    It isn't under the home directory: root's home is closed to the server's account."""
    directory = Path(tempfile.mkdtemp(prefix=f"basalt-{label}-", dir=os.environ.get("BASALT_TEST_DIRECTORY", "/tmp")))
    directory.chmod(0o755)
    give_to_server(directory)
    return directory


def remove_directory(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A loopback port that nobody listens on now, below the range that the kernel gives to clients."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free loopback port")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The process ids whose parent is `pid`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def send_signal(pid: int, number: int) -> None:
    """Signal a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait_until(condition, timeout: float, what: str, step: float = 0.02):
    """Call `condition` until it returns something true and return that; TimeoutError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(step)


def wait_for_exit(pids: list[int], timeout: float, what: str, reap=lambda: None) -> None:
    """Wait until none of the processes runs; `reap` collects those that are our own children."""

    def gone():
        reap()
        return not any(is_alive(pid) for pid in pids)

    wait_until(gone, timeout, what)


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        send_signal(pid, signal.SIGKILL)
