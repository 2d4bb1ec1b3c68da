"""The librdkafka properties file: which properties may be set there, and why others may not.

The list of those that may be set is explicit, so a property that a later librdkafka adds is refused
until somebody has thought about it.
"""

from __future__ import annotations

from schemas.text import did_you_mean

PAGE = "docs/how-to/connect-to-a-cluster.md"
# How brokers are reached, how fast records flow, and what the client logs. None of these decides
# which records are read, whether an output is published, or which brokers the process trusts.
ALLOWED = frozenset(
    {
        # Network.
        "broker.address.family",
        "broker.address.ttl",
        "client.dns.lookup",
        "client.rack",
        "connections.max.idle.ms",
        "enable.metrics.push",
        "metadata.max.age.ms",
        "metadata.recovery.rebootstrap.trigger.ms",
        "metadata.recovery.strategy",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "request.timeout.ms",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes",
        "socket.timeout.ms",
        "topic.metadata.refresh.fast.interval.ms",
        "topic.metadata.refresh.interval.ms",
        # TLS, where an installation demands more than the default.
        "https.ca.location",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.curves.list",
        "ssl.sigalgs.list",
        # Speed of consumers.
        "auto.commit.interval.ms",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "max.partition.fetch.bytes",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        # Speed of producers.
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "linger.ms",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.ms",
        "sticky.partitioning.linger.ms",
        # The client's log.
        "debug",
        "log.connection.close",
        "log_level",
    }
)

POSITION = (
    "the position of a lane is its row in PostgreSQL; offsets in Kafka are for lag tools only"
)
MEMBERSHIP = "takeover after a crash is proven with groups of the protocol `consumer` (KIP-848)"
DURABLE = "an output is published only when every in-sync replica has it, once and in order"
SECURITY = "STUBLINE_KAFKA_SECURITY_PROTOCOL and the settings beside it are for that"
BY_REFERENCE = "secrets are read by reference, so that they can be renewed: use {}"
IN_A_FILE = "it would have to be written here, and could not be renewed: use {}"
KEYSTORE = (
    "use STUBLINE_KAFKA_CERTIFICATE_FILE, STUBLINE_KAFKA_KEY_FILE and STUBLINE_KAFKA_KEY_PASSWORD; "
    "`openssl pkcs12` writes a keystore as PEM"
)
TRUSTED = (
    "whoever stands between the process and the brokers could pass for them; "
    "STUBLINE_KAFKA_CA_FILE names the authority of certificates that are not trusted"
)
CLIENT_CREDENTIALS = (
    "only client credentials are supported: use STUBLINE_KAFKA_OAUTH_CLIENT_ID and "
    "STUBLINE_KAFKA_OAUTH_CLIENT_SECRET"
)
MECHANISMS = (
    "Kerberos is not supported: STUBLINE_KAFKA_SASL_MECHANISM is PLAIN, SCRAM-SHA-256, "
    "SCRAM-SHA-512 or OAUTHBEARER"
)
DEADLINE = "STUBLINE_<SERVICE>_DELIVERY_TIMEOUT_MS sets it"
QUEUE = "the producer's queue is bounded by the service's own settings"
BROKERS = "KAFKA_BOOTSTRAP_SERVERS names the brokers"
TRANSACTIONS = "effects are exactly once by rows in PostgreSQL, without transactions"
MOCK = "a broker inside the process would acknowledge records, and they would be lost"
PLUGIN = "code inside the client could change or drop records"
CALLBACK = "it is no value that a file can hold: the program sets its own"
VERSIONS = "Kafka 4 or later is needed, and the client learns from it what it supports"

REFUSED = {
    "acks": DURABLE,
    "allow.auto.create.topics": (
        "a topic that a client creates has other partitions and settings; `stubline migrate` "
        "creates what is missing"
    ),
    "auto.commit.enable": POSITION,
    "auto.offset.reset": (
        "a lane never jumps: an offset that is out of range stops it until an operator decides"
    ),
    "bootstrap.servers": BROKERS,
    "check.crcs": "a damaged batch must be reported and never be parsed",
    "client.id": "it names the process",
    "default.topic.config": "write each property in a line of its own",
    "delivery.report.only.error": "a lane goes on once each of its outputs is acknowledged",
    "delivery.timeout.ms": DEADLINE,
    "enable.auto.commit": POSITION,
    "enable.auto.offset.store": POSITION,
    "enable.gapless.guarantee": DURABLE,
    "enable.idempotence": DURABLE,
    "enable.partition.eof": "without the reported end of a partition, lag would be guessed",
    "enable.sasl.oauthbearer.unsecure.jwt": TRUSTED,
    "enable.ssl.certificate.verification": TRUSTED,
    "group.id": "STUBLINE_KAFKA_PREFIX changes the names of groups",
    "heartbeat.interval.ms": MEMBERSHIP,
    "https.ca.pem": IN_A_FILE.format("https.ca.location"),
    "isolation.level": "records of a transaction that was aborted never happened",
    "max.in.flight": DURABLE,
    "max.in.flight.requests.per.connection": DURABLE,
    "max.poll.interval.ms": MEMBERSHIP,
    "message.max.bytes": (
        "a lane's outputs are bounded by it before they are committed, so that they can be "
        "published"
    ),
    "message.send.max.retries": DURABLE,
    "message.timeout.ms": DEADLINE,
    "metadata.broker.list": BROKERS,
    "partition.assignment.strategy": MEMBERSHIP,
    "partitioner": "a key must have the same partition with every producer",
    "queue.buffering.max.kbytes": QUEUE,
    "queue.buffering.max.messages": QUEUE,
    "queuing.strategy": DURABLE,
    "request.required.acks": DURABLE,
    "retries": DURABLE,
    "sasl.oauthbearer.client.credentials.client.secret": BY_REFERENCE.format(
        "STUBLINE_KAFKA_OAUTH_CLIENT_SECRET"
    ),
    "sasl.oauthbearer.client.secret": BY_REFERENCE.format("STUBLINE_KAFKA_OAUTH_CLIENT_SECRET"),
    "sasl.password": BY_REFERENCE.format("STUBLINE_KAFKA_PASSWORD"),
    "session.timeout.ms": MEMBERSHIP,
    "ssl.ca.pem": IN_A_FILE.format("STUBLINE_KAFKA_CA_FILE"),
    "ssl.certificate.pem": IN_A_FILE.format("STUBLINE_KAFKA_CERTIFICATE_FILE"),
    "ssl.endpoint.identification.algorithm": TRUSTED,
    "ssl.key.password": BY_REFERENCE.format("STUBLINE_KAFKA_KEY_PASSWORD"),
    "ssl.key.pem": IN_A_FILE.format("STUBLINE_KAFKA_KEY_FILE"),
    "topic.blacklist": "its topics would seem not to exist, and their outputs would never leave",
}
# By the beginning of a name, the first that fits.
REFUSED_FAMILIES = {
    "test.": MOCK,
    "plugin.": PLUGIN,
    "interceptors": PLUGIN,
    "sasl.oauthbearer.assertion.": CLIENT_CREDENTIALS,
    "sasl.oauthbearer.grant.": CLIENT_CREDENTIALS,
    "sasl.kerberos.": MECHANISMS,
    "sasl.": SECURITY,
    "security.": SECURITY,
    "ssl.keystore.": KEYSTORE,
    "ssl.": SECURITY,
    "ssl_": SECURITY,
    "group.": MEMBERSHIP,
    "offset.store.": POSITION,
    "transaction": TRANSACTIONS,
    "api.version.": VERSIONS,
    "broker.version.": VERSIONS,
}
CALLBACKS = frozenset(
    {"default_topic_conf", "logger", "msg_order_cmp", "on_commit", "on_delivery", "opaque"}
)


def refusal(name: str) -> str | None:
    """Return why a property cannot be set in the file; None if it may be."""
    if name in ALLOWED:
        return None
    if (reason := REFUSED.get(name)) is not None:
        return reason
    for beginning, reason in REFUSED_FAMILIES.items():
        if name.startswith(beginning):
            return reason
    if name in CALLBACKS or name.endswith("_cb"):
        return CALLBACK
    return f"it is none of those that {PAGE} lists{did_you_mean(name, ALLOWED)}"


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
        if (reason := refusal(name)) is not None:
            raise ValueError(f"line {number}: {name} cannot be set here: {reason}")
        properties[name] = value.strip()
    return properties
