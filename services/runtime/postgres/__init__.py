"""PostgreSQL: connections, the lane store, statements and migrations."""
