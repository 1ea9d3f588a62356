# `just NAME`; each is a script that runs without just as well.

# Format, clippy, dependency directions, licences; then every test.
check:
    .ci/run

# Every test.
test *arguments:
    ./test {{arguments}}

# Benchmarks side by side with a heap table and DuckDB.
bench *arguments:
    bench/run {{arguments}}

# A private PostgreSQL and Kafka with three million flights.
quickstart *arguments:
    ./quickstart {{arguments}}

# Install what building and testing need.
setup:
    scripts/setup.sh --checks

# Build this work tree and install it into a private PostgreSQL tree; prints where.
prefix *arguments:
    scripts/install-prefix {{arguments}}
