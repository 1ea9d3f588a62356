//! What generated queries do not show: errors, cancellation, budgets, what the host is asked.
