"""Real servers for tests, benchmarks and the quickstart: private PostgreSQL installations and clusters, and Apache Kafka.

This file imports nothing, so that `harness.prefix` runs with the standard library alone.
"""
