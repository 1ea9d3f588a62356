"""PostgreSQL's own regression queries over datasources and heap tables: fetching them, taking their scripts apart, running them."""
