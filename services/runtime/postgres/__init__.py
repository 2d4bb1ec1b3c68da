"""PostgreSQL: connections, the ledger of lanes, statements and migrations."""
