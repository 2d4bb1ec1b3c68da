"""Kafka: the client of a lane, and what tools ask of a broker."""
