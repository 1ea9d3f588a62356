//! SQL-callable functions.
