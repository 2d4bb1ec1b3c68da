"""The names of the properties that the installed librdkafka knows, as it prints them itself."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import confluent_kafka

PROPERTY = re.compile(r"([a-z][a-z0-9_.]*) +\| +[*CP] +\|")
# It prints none that are for its own tests. confluent-kafka adds some of its own.
HIDDEN = frozenset({"test.mock.num.brokers", "test.mock.broker.rtt", "ut_handle_ProduceResponse"})
OF_CONFLUENT_KAFKA = frozenset(
    {"default.topic.config", "logger", "oauth_cb", "on_commit", "on_delivery"}
)


def known_properties(folder: Path) -> frozenset[str]:
    """Return the names. The folder is for what the library prints."""
    packages = Path(confluent_kafka.__file__).parents[1]
    (library,) = (packages / "confluent_kafka.libs").glob("librdkafka*")
    librdkafka, libc = ctypes.CDLL(str(library)), ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fclose.argtypes = librdkafka.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    printed = folder / "properties.md"
    file = libc.fopen(str(printed).encode(), b"w")
    librdkafka.rd_kafka_conf_properties_show(file)
    libc.fclose(file)
    names = frozenset(PROPERTY.findall(printed.read_text("utf-8")))
    return names | HIDDEN | OF_CONFLUENT_KAFKA
