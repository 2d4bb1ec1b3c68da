"""The librdkafka properties file: what may be set there, and what must not be and why."""

from __future__ import annotations

POSITION = "the position of a lane is its row in PostgreSQL; offsets in Kafka are only a hint"
MEMBERSHIP = "takeover after a crash is proven with groups of the protocol `consumer` (KIP-848)"
DURABLE = "an output is published only when every in-sync replica has it, once and in order"
SECURITY = "STUBLINE_KAFKA_SECURITY_PROTOCOL and the settings beside it are for that"
BY_REFERENCE = "secrets are read by reference, so that they can be renewed: {}"
DEADLINE = "STUBLINE_<SERVICE>_DELIVERY_TIMEOUT_MS sets it"
QUEUE = "the producer's queue is bounded by the service's own settings"

REFUSED = {
    "acks": DURABLE,
    "auto.commit.enable": POSITION,
    "auto.offset.reset": (
        "a lane never jumps: an offset that is out of range stops it until an operator decides"
    ),
    "bootstrap.servers": "KAFKA_BOOTSTRAP_SERVERS names the brokers",
    "check.crcs": "a damaged batch must be reported and never be parsed",
    "client.id": "it names the process",
    "delivery.timeout.ms": DEADLINE,
    "enable.auto.commit": POSITION,
    "enable.auto.offset.store": POSITION,
    "enable.idempotence": DURABLE,
    "enable.partition.eof": "without the reported end of a partition, lag would be guessed",
    "group.id": "STUBLINE_KAFKA_PREFIX changes the names of groups",
    "group.instance.id": MEMBERSHIP,
    "group.protocol": MEMBERSHIP,
    "group.remote.assignor": MEMBERSHIP,
    "isolation.level": "records of a transaction that was aborted never happened",
    "max.in.flight": DURABLE,
    "max.in.flight.requests.per.connection": DURABLE,
    "message.max.bytes": (
        "a lane's outputs are bounded by it before they are committed, so that they can be "
        "published"
    ),
    "message.send.max.retries": DURABLE,
    "message.timeout.ms": DEADLINE,
    "metadata.broker.list": "KAFKA_BOOTSTRAP_SERVERS names the brokers",
    "partition.assignment.strategy": MEMBERSHIP,
    "partitioner": "a key must have the same partition with every producer",
    "queue.buffering.max.kbytes": QUEUE,
    "queue.buffering.max.messages": QUEUE,
    "request.required.acks": DURABLE,
    "retries": DURABLE,
    "sasl.mechanism": SECURITY,
    "sasl.mechanisms": SECURITY,
    "sasl.oauthbearer.client.id": SECURITY,
    "sasl.oauthbearer.client.secret": BY_REFERENCE.format("STUBLINE_KAFKA_OAUTH_CLIENT_SECRET"),
    "sasl.oauthbearer.method": SECURITY,
    "sasl.oauthbearer.scope": SECURITY,
    "sasl.oauthbearer.token.endpoint.url": SECURITY,
    "sasl.password": BY_REFERENCE.format("STUBLINE_KAFKA_PASSWORD"),
    "sasl.username": SECURITY,
    "security.protocol": SECURITY,
    "ssl.ca.location": SECURITY,
    "ssl.certificate.location": SECURITY,
    "ssl.key.location": SECURITY,
    "ssl.key.password": BY_REFERENCE.format("STUBLINE_KAFKA_KEY_PASSWORD"),
    "transactional.id": "effects are exactly once by rows in PostgreSQL, without transactions",
}


def read_properties(text: str) -> dict[str, str]:
    """Return the properties by name. Raises ValueError, which quotes no value.

    A line is `name=value`, empty, or a comment that begins with #. If a name is repeated, the last
    value wins, as in Kafka's own tools.
    """
    properties = dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        name, separator, value = content.partition("=")
        name = name.strip()
        if not separator or not name:
            raise ValueError(f"line {number} is not of the form name=value")
        if (reason := REFUSED.get(name)) is not None:
            raise ValueError(f"line {number}: {name} cannot be set here: {reason}")
        properties[name] = value.strip()
    return properties
