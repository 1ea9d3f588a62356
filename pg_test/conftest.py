"""Fixtures: a PostgreSQL cluster and a Kafka server for the whole run, databases and topics for each test.

`./test` runs everything. One file, against this work tree's dev build (built first, as `scripts/install-prefix` does):
`~/.cache/basalt/venv/bin/pytest pg_test/test_harness.py`. BASALT_PREFIX names an installation to use without building.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from both import EVERY_TYPE, EVERY_TYPE_ROWS, stocked  # noqa: E402
from harness import prefix as prefixes  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.kafka import Kafka  # noqa: E402
from harness.twins import twins_of  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "internal_errors: the test provokes errors of SQLSTATE XX000, which otherwise fail it")
    config.addinivalue_line("markers", "nightly: too long for ./test; runs when BASALT_NIGHTLY is set")
    signal.signal(signal.SIGTERM, end_run)


def end_run(_number, _frame):
    """A run that is told to end stops its servers."""
    raise KeyboardInterrupt


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("BASALT_NIGHTLY"):
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason="nightly: set BASALT_NIGHTLY=1"))


@pytest.fixture(scope="session")
def prefix():
    """The private PostgreSQL installation with the extension; see harness.prefix.for_tests."""
    return prefixes.for_tests()


# Segments stay as tests make them. Tests of the maintenance worker turn it on.
CALM = {"basalt.maintenance": "off"}


@pytest.fixture(scope="session")
def session_cluster(prefix):
    cluster = Cluster(prefix, config=CALM)
    try:
        yield cluster.init().start()
    finally:
        cluster.destroy()


@pytest.fixture
def cluster(session_cluster, request):
    """The run's shared cluster. A test that stops or kills a server makes its own: `new_cluster`."""
    if not session_cluster.is_running():
        session_cluster.start()
    session_cluster.wait_for_answer()
    session_cluster.forgive()
    yield session_cluster
    session_cluster.check_log(internal_errors=request.node.get_closest_marker("internal_errors") is None)


@pytest.fixture
def database(cluster):
    """A new database with the extension, dropped after the test."""
    database = cluster.create_database()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def both(session_cluster):
    """A heap table and a datasource of the same rows, a column of every type; a module may have a table of its own."""
    mood = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')"
    with stocked(session_cluster, EVERY_TYPE, EVERY_TYPE_ROWS, segments=7, before=mood) as both:
        yield both


@pytest.fixture
def twins(database):
    """Schemas `store` and `heap` of a new database, for tables that get the same statements."""
    with twins_of(database) as twins:
        yield twins


@pytest.fixture
def new_cluster(prefix, request):
    """Makes started clusters that belong to this test alone: new_cluster(setting=value, ...)."""
    made = []

    def make(**config):
        cluster = Cluster(prefix, config=CALM | config)
        made.append(cluster)
        return cluster.init().start()

    make.made = made
    yield make
    try:
        for cluster in made:
            cluster.check_log(internal_errors=request.node.get_closest_marker("internal_errors") is None)
    finally:
        for cluster in made:
            cluster.destroy()


@pytest.fixture
def new_standby(new_cluster):
    """Makes a started standby of a cluster."""

    def make(primary, **config):
        follower = primary.standby(config)
        new_cluster.made.append(follower)
        return follower

    return make


@pytest.fixture(scope="session")
def kafka():
    """The run's shared Kafka server. A test that stops or kills it makes its own: `new_kafka`."""
    server = Kafka()
    try:
        yield server.init().start()
    finally:
        server.destroy()


@pytest.fixture
def new_kafka():
    made = []

    def make(**config):
        server = Kafka(config={k.replace("_", "."): v for k, v in config.items()})
        made.append(server)
        return server.init().start()

    yield make
    for server in made:
        server.destroy()


@pytest.fixture
def topic(kafka):
    """A new topic of one partition, deleted after the test."""
    name = kafka.create_topic()
    yield name
    kafka.delete_topic(name)
