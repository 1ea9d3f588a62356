"""One PostgreSQL cluster: its data directory, postmaster, connections and log."""

import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import psycopg

from . import system
from .prefix import Prefix

DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "basalt",
    "fsync": "off",  # Processes are killed here, the operating system isn't.
    "max_connections": 60,
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %b %d %e ",
    "log_timezone": "UTC",
    "max_prepared_transactions": 10,
    "max_worker_processes": 20,
}

# What no test may leave in the log. XX000 is PostgreSQL's code for errors that should not occur, and a Rust panic's.
CRASH = re.compile(r"\(PID \d+\) was terminated by signal|PANIC: |because of crash of another server process|panicked at|stack overflow")
INTERNAL = re.compile(r" XX000 (ERROR|FATAL): ")


class ServerFault(AssertionError):
    """The server's log holds a crash or an internal error that no test announced."""


class Cluster:
    """A cluster below `directory` (data, socket and log), or below a new directory of its own.

    `config` is added to DEFAULTS; a value of None leaves a default out."""

    def __init__(self, prefix: Prefix, directory: Path | None = None, config: dict | None = None, port: int | None = None):
        self.prefix = prefix
        self.directory = directory or system.make_directory("pg")
        self.data = self.directory / "data"
        self.socket = self.directory
        self.log = self.directory / "log"
        self.port = port or system.free_port()
        self.config = DEFAULTS | {"unix_socket_directories": self.socket, "port": self.port} | (config or {})
        self.process: subprocess.Popen | None = None
        self.checked = 0  # bytes of the log that `check_log` has judged
        self.databases = 0

    # Life cycle

    def init(self) -> "Cluster":
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        return self.configure()

    def configure(self, **settings) -> "Cluster":
        """Write settings; they count from the next start, or `reload` if the parameter allows it."""
        self.config |= settings
        lines = [f"{k} = '{str(v).replace(chr(39), chr(39) * 2)}'\n" for k, v in self.config.items() if v is not None]
        (self.data / "postgresql.auto.conf").write_text("".join(lines))
        return self

    def start(self, timeout: float = 60) -> "Cluster":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.prefix.bin / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, start_new_session=True,
                env=system.server_environment(), **system.server_account(),
            )
        system.wait_until(self._is_ready, timeout, f"start of PostgreSQL in {self.directory}\n{self.log_tail()}")
        return self

    def _is_ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise ServerFault(f"PostgreSQL ended with {self.process.returncode} while it started\n{self.log_tail()}")
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() in ("ready", "standby")

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, also when another program started it; None when it doesn't run."""
        if self.process is not None:
            return self.process.pid if self.process.poll() is None else None
        lines = self._pid_file()
        return int(lines[0]) if lines and system.is_alive(int(lines[0])) else None

    def stop(self, mode: str = "fast", timeout: float = 60) -> None:
        """Shut down: smart (waits for sessions), fast or immediate (the next start recovers)."""
        if (pid := self.pid) is not None:
            number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            system.send_signal(pid, number)
            system.wait_for_exit([pid], timeout, f"{mode} shutdown\n{self.log_tail()}", reap=self._reap)
        self.process = None

    def _reap(self) -> None:
        if self.process is not None:
            self.process.poll()

    def restart(self, mode: str = "fast") -> "Cluster":
        self.stop(mode)
        return self.start()

    def reload(self) -> None:
        system.send_signal(self.pid, signal.SIGHUP)

    def kill(self, everything: bool = True) -> None:
        """kill -9 the postmaster and, with `everything`, its children at once; else wait for them to notice.

        On return none of them runs. The kill itself is not held against the test."""
        pid = self.pid
        assert pid is not None, "the postmaster doesn't run"
        system.send_signal(pid, signal.SIGSTOP)  # no child starts while they are listed
        family = system.children(pid)
        system.kill_all([pid] + (family if everything else []))
        system.wait_for_exit([pid, *family], 60, "end of the killed server's processes", reap=self._reap)
        self.process = None
        self.forgive()

    def kill_backend(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Signal one process of the server. After SIGKILL the postmaster restarts the others: see `crash_expected`."""
        system.send_signal(pid, number)

    def is_running(self) -> bool:
        return self.pid is not None

    def destroy(self) -> None:
        """Stop at once and remove the files."""
        try:
            self.stop("immediate")
        finally:
            if self.process is not None:
                self.kill()
            system.remove_directory(self.directory)

    # Programs and connections

    def run(self, program: str, *arguments, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess:
        """Run a program of the installation (pg_dump, psql, ...) as the server's account, connected to this cluster."""
        environment = system.server_environment() | {
            "PGHOST": str(self.socket), "PGPORT": str(self.port), "PGUSER": "postgres"
        }
        result = subprocess.run(
            [str(self.prefix.bin / program), *map(str, arguments)],
            env=environment, cwd=self.directory, input=stdin, text=True, capture_output=True, **system.server_account(),
        )
        if check and result.returncode != 0:
            raise RuntimeError(f"{program} ended with {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host={self.socket} port={self.port} dbname={database} user={user}"

    def connect(self, database: str = "postgres", user: str = "postgres", autocommit: bool = True, **options):
        """A psycopg connection; autocommit unless told otherwise."""
        return psycopg.connect(self.dsn(database, user), autocommit=autocommit, **options)

    def query(self, sql: str, parameters=None, database: str = "postgres") -> list[tuple]:
        """Rows of one statement in a session of its own; an empty list when it returns none."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, extension: bool = True, template: str = "template0") -> "Database":
        self.databases += 1
        name = f"test_{self.databases}"
        self.query(f"CREATE DATABASE {name} TEMPLATE {template}")
        database = Database(self, name)
        if extension:
            database.query("CREATE EXTENSION basalt")
        return database

    # Standby

    def standby(self, config: dict | None = None) -> "Cluster":
        """A started physical standby, made by pg_basebackup and streaming from this cluster."""
        directory = system.make_directory("standby")
        follower = Cluster(self.prefix, directory, config={**self.config, "port": None} | (config or {}))
        follower.config |= {"port": follower.port, "unix_socket_directories": follower.socket}
        follower.config |= {"primary_conninfo": self.dsn(), "hot_standby": "on"}
        self.run("pg_basebackup", "-D", follower.data, "--checkpoint=fast", "--wal-method=stream", "--no-sync")
        follower.configure()
        (follower.data / "standby.signal").touch()
        system.give_to_server(follower.data / "standby.signal")
        return follower.start()

    def wait_for_replay(self, follower: "Cluster", timeout: float = 60) -> None:
        """Wait until `follower` has replayed all that this cluster has written."""
        position = self.query("SELECT pg_current_wal_lsn()")[0][0]
        system.wait_until(
            lambda: follower.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))[0][0],
            timeout, f"replay of {position}\n{follower.log_tail()}",
        )

    # Log

    def log_text(self, start: int = 0) -> str:
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def forgive(self) -> None:
        """Don't hold what the log says up to now against the test."""
        self.checked = self.log.stat().st_size if self.log.exists() else 0

    def check_log(self, internal_errors: bool = True) -> None:
        """Raise ServerFault when the log, since the last check, tells of a crash, a panic or an internal error."""
        text = self.log_text(self.checked)
        self.checked += len(text.encode(errors="replace"))
        self.forgive()
        bad = [line for line in text.splitlines() if CRASH.search(line) or (internal_errors and INTERNAL.search(line))]
        if bad:
            raise ServerFault(f"the server's log ({self.log}) has\n" + "\n".join(bad[:20]) + "\n... its end:\n" + self.log_tail(8))

    @contextmanager
    def crash_expected(self):
        """A crash inside the block is wanted: wait until the server accepts connections again, then forgive the log."""
        self.check_log()
        yield
        self.wait_for_answer()
        self.forgive()

    def wait_for_answer(self, timeout: float = 60) -> None:
        """Wait until the server accepts connections, as after the crash of a backend."""
        system.wait_until(self._answers, timeout, f"recovery after a crash\n{self.log_tail()}")

    def _answers(self) -> bool:
        try:
            return self.query("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False


class Database:
    """A database of a cluster."""

    def __init__(self, cluster: Cluster, name: str):
        self.cluster = cluster
        self.name = name

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.name)

    def connect(self, **options):
        return self.cluster.connect(self.name, **options)

    def query(self, sql: str, parameters=None) -> list[tuple]:
        return self.cluster.query(sql, parameters, self.name)

    def value(self, sql: str, parameters=None):
        """The only column of the only row."""
        ((value,),) = self.query(sql, parameters)
        return value

    def psql(self, script: str, check: bool = True) -> str:
        """Run a script with psql, stopping at the first error; returns unaligned output without headings."""
        return self.cluster.run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.name, stdin=script, check=check
        ).stdout

    def drop(self) -> None:
        self.cluster.query(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
