"""Random interleavings of two sessions' transactions against a heap twin: every answer and status is the same.

BASALT_MVCC_SEEDS gives the number of runs, BASALT_MVCC_STEPS the statements of each."""

import os
import random

import pytest

from harness.twins import attempt

SEEDS = int(os.environ.get("BASALT_MVCC_SEEDS", "6"))
STEPS = int(os.environ.get("BASALT_MVCC_STEPS", "220"))


class Actor:
    """One session and what it may do next."""

    def __init__(self, twins, number: int, dice: random.Random):
        self.session, self.number, self.dice = twins.session(), number, dice
        self.cursors: set[str] = set()
        self.savepoints: list[str] = []
        self.prepared: list[str] = []
        self.made = 0

    @property
    def in_transaction(self) -> bool:
        return self.session.store.info.transaction_status != 0

    def rows(self) -> str:
        dice = self.dice
        count = dice.choice((1, 1, 1, 2, 5, 300))
        self.made += 1
        time = f"'2026-01-01Z'::timestamptz + ({dice.randrange(400)} + i % 17) * interval '5 hours'"
        return f"SELECT {time}, 'w{self.number}.{self.made % 23}', {dice.randrange(1000)} + i FROM generate_series(1, {count}) i"

    def step(self, other_is_idle: bool) -> list[str]:
        """The statements of one step."""
        dice = self.dice
        insert = f"INSERT INTO t {self.rows()}"
        read = dice.choice((
            "SELECT * FROM t", "SELECT count(*), sum(n), count(DISTINCT city) FROM t", "SELECT city, count(*), max(ts) FROM t GROUP BY city",
            "SELECT date_trunc('week', ts), sum(n) FROM t WHERE ts >= '2026-01-20Z' GROUP BY 1", "SELECT n FROM t WHERE city LIKE 'w1%' AND n > 500",
        ))
        if not self.in_transaction:
            self.savepoints.clear(), self.cursors.clear()
            choices = [(4, ["BEGIN"]), (2, ["BEGIN ISOLATION LEVEL REPEATABLE READ"]), (2, [insert]), (2, [read])]
            if self.prepared:
                choices.append((3, [f"{dice.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{self.prepared[0]}'"]))
            return self._choose(choices)
        savepoint = f"s{dice.randrange(4)}"
        cursor = f"c{len(self.cursors)}"
        choices = [
            (10, [insert]), (7, [read]), (6, [f"SAVEPOINT {savepoint}"]), (3, ["COMMIT"]), (1, ["ROLLBACK"]),
            (1, [f"INSERT INTO t {self.rows()} RETURNING city"]), (1, [f"DECLARE {cursor} CURSOR FOR SELECT n FROM t ORDER BY n"]),
            (1, ["SAVEPOINT bad", f"INSERT INTO t SELECT NULL, 'null', n FROM ({self.rows()}) AS x (ts, city, n)", "ROLLBACK TO bad"]),
            (1, [f"DO $$ BEGIN {insert}; BEGIN INSERT INTO t {self.rows()}; PERFORM count(*) FROM t; PERFORM 1 / 0; "
                 f"EXCEPTION WHEN division_by_zero THEN INSERT INTO t {self.rows()}; END; END $$"]),
        ]
        if self.savepoints:
            name = dice.choice(self.savepoints)
            choices += [(6, [f"ROLLBACK TO {name}"]), (4, [f"RELEASE {name}"])]
        if self.cursors:
            choices.append((3, [f"FETCH {dice.choice((5, 'ALL'))} FROM {dice.choice(sorted(self.cursors))}"]))
        if not self.prepared:
            choices.append((1, [f"PREPARE TRANSACTION '{{side}}_{self.number}'"]))
        # A truncate waits for the other's locks, holds its own, and on a heap isn't transactional for older snapshots.
        if other_is_idle:
            choices.append((1, ["TRUNCATE t", insert, read, dice.choice(("COMMIT", "ROLLBACK"))]))
            choices.append((1, ["SAVEPOINT gone", "TRUNCATE t", insert, read, "ROLLBACK TO gone", read]))
        return self._choose(choices)

    def _choose(self, choices) -> list[str]:
        return self.dice.choices([c for _, c in choices], [w for w, _ in choices])[0]

    def run(self, sql: str) -> None:
        failed = self.session.run(sql).error is not None
        word, *rest = sql.split()
        if word == "DECLARE" and not failed:
            self.cursors.add(rest[0])
        elif word == "SAVEPOINT" and not failed:
            self.savepoints.append(rest[0])
        elif word in ("ROLLBACK", "RELEASE") and rest and rest[-1] in self.savepoints:
            place = len(self.savepoints) - self.savepoints[::-1].index(rest[-1])
            del self.savepoints[place if word == "ROLLBACK" else place - 1:]
            self.cursors.clear() if word == "ROLLBACK" else None
        elif sql.startswith("PREPARE TRANSACTION") and not failed:
            self.prepared.append(rest[-1].strip("'"))
        elif rest and rest[0] == "PREPARED":
            self.prepared.pop()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_interleavings(twins, seed):
    dice = random.Random(seed)
    twins.create("ts timestamptz NOT NULL, city text, n int")
    actors = [Actor(twins, 1, dice), Actor(twins, 2, dice)]
    janitor = twins.session().store
    janitor.execute("SET lock_timeout = '100ms'")
    history = []
    try:
        for step in range(STEPS):
            actor, other = random.Random(f"{seed}.{step}").sample(actors, 2)
            if dice.random() < 0.04:
                # Changes no answer; waits for nobody.
                sql = dice.choice(("SELECT basalt.compact('t')", "SELECT basalt.sweep()"))
                history.append(f"janitor: {sql}")
                outcome = attempt(janitor, sql)
                assert outcome.sqlstate in (None, "55P03"), outcome.error
            for sql in actor.step(not other.in_transaction and not other.prepared and not actor.prepared):
                history.append(f"session {actor.number}: {sql}")
                actor.run(sql)
        for actor in actors:
            actor.run("ROLLBACK") if actor.in_transaction else None
            for name in list(actor.prepared):
                actor.run(f"COMMIT PREPARED '{name}'")
        twins.main.same()
    except AssertionError:
        print(f"seed {seed}; statements:\n" + "\n".join(history))
        raise
