"""Kafka: the cluster's settings, the broker client of a worker, and topics for tools."""
