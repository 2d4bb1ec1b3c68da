"""A real Kafka, PostgreSQL and mail server on one machine, without root, in one folder."""
