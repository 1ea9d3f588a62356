"""A statement that runs in a thread, for tests in which one session waits for another."""

import threading

from .system import wait_until
from .twins import Outcome, attempt


class Running:
    """`sql` on `connection`, started now."""

    def __init__(self, connection, sql: str, parameters=None):
        self.connection, self.sql = connection, sql
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._run, args=(parameters,), daemon=True)
        self.thread.start()

    def _run(self, parameters):
        self.outcome = attempt(self.connection, self.sql, parameters)

    def wait_until_blocked(self, database, timeout: float = 30) -> "Running":
        """Wait until it waits for a lock; AssertionError when it ended instead."""

        def blocked():
            assert self.thread.is_alive(), f"{self.sql} did not wait: {self.outcome}"
            return database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
                                  (self.connection.info.backend_pid,))

        wait_until(blocked, timeout, f"{self.sql}: waiting for a lock", 0.01)
        return self

    def result(self, timeout: float = 60) -> Outcome:
        """Its outcome, once it ended."""
        self.thread.join(timeout)
        assert self.outcome is not None, f"{self.sql}: not ended within {timeout:g} s"
        return self.outcome

    def ok(self, timeout: float = 60) -> Outcome:
        outcome = self.result(timeout)
        assert outcome.error is None, f"{self.sql}: {outcome.error}"
        return outcome
