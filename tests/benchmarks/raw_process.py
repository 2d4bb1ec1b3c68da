"""What a lane is measured against: a bare consume(n) -> produce in a process of its own."""

from __future__ import annotations

import argparse
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from services.runtime.kafka.client import producer_settings


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--servers", "--topic", "--to"):
        parser.add_argument(name, required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    consumer = Consumer(
        {"bootstrap.servers": options.servers, "group.id": "raw", "fetch.queue.backoff.ms": 5}
    )
    consumer.assign(
        [TopicPartition(options.topic, number, 0) for number in range(options.partitions)]
    )
    producer = Producer(producer_settings(options.servers, "raw", 30_000))
    seen = len(consumer.consume(1, 10.0))
    started_at = time.monotonic()
    while seen < options.records:
        for message in consumer.consume(1_000, 0.1):
            seen += 1
            while True:
                try:
                    producer.produce(options.to, value=message.value(), key=message.key())
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    print(seen / (time.monotonic() - started_at))
    consumer.close()


if __name__ == "__main__":
    main()
