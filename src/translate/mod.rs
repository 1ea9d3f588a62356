//! PostgreSQL's expressions into the engine's plans.
