//! Ingestion and maintenance without PostgreSQL: what reads Kafka, decodes, decides what to merge and hand off.
