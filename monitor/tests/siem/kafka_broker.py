"""Three brokers of librdkafka's mock cluster (PyPI `confluent-kafka`), and its consumer.

The cluster speaks Kafka's protocol on loopback sockets. It answers "ADDRESS,ADDRESS,…" first, and then one line for each
command that it reads:

    fail CODE…            the next produce requests are answered with these error codes
    lead BROKER           this broker leads every partition from now on
    down BROKER           this broker takes no connections
    up BROKER             it does again
    partition KEY         the partition that librdkafka's producer, with Kafka's default partitioner, chooses for a key
    read COUNT            so many records from the beginning of all partitions, as a JSON array
"""

import ctypes
import glob
import json
import os
import sys

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

TOPIC, PARTITIONS, BROKERS = "egresswatch", 4, 3
PRODUCE = 0
pointer = ctypes.c_void_p


def library():
    # The Python interface has no mock cluster of its own; the C library beside it has.
    folder = os.path.join(os.path.dirname(confluent_kafka.__file__), "..", "confluent_kafka.libs")
    found = ctypes.CDLL(glob.glob(os.path.join(folder, "librdkafka*"))[0])
    found.rd_kafka_conf_new.restype = pointer
    found.rd_kafka_conf_set.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    found.rd_kafka_new.restype = pointer
    found.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    found.rd_kafka_mock_cluster_new.restype = pointer
    found.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    found.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    found.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    found.rd_kafka_mock_topic_create.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    found.rd_kafka_mock_partition_set_leader.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]
    found.rd_kafka_mock_broker_set_down.argtypes = [pointer, ctypes.c_int32]
    found.rd_kafka_mock_broker_set_up.argtypes = [pointer, ctypes.c_int32]
    found.rd_kafka_mock_push_request_errors_array.argtypes = [
        pointer,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    found.rd_kafka_mock_push_request_errors_array.restype = None
    return found


def checked(code):
    assert code == 0, f"librdkafka answered {code}"
    return "ok"


class Cluster:
    def __init__(self):
        self.library = library()
        error = ctypes.create_string_buffer(512)
        # It has no brokers to talk to, and its log would say so.
        configuration = self.library.rd_kafka_conf_new()
        self.library.rd_kafka_conf_set(configuration, b"log_level", b"0", error, len(error))
        client = self.library.rd_kafka_new(0, configuration, error, len(error))
        assert client, error.value
        self.cluster = self.library.rd_kafka_mock_cluster_new(client, BROKERS)
        checked(self.library.rd_kafka_mock_topic_create(self.cluster, TOPIC.encode(), PARTITIONS, BROKERS))
        self.lead(1)
        self.addresses = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def lead(self, broker):
        for number in range(PARTITIONS):
            checked(
                self.library.rd_kafka_mock_partition_set_leader(self.cluster, TOPIC.encode(), number, int(broker))
            )
        return "ok"

    def fail(self, *codes):
        errors = (ctypes.c_int * len(codes))(*map(int, codes))
        self.library.rd_kafka_mock_push_request_errors_array(self.cluster, PRODUCE, len(codes), errors)
        return "ok"

    def down(self, broker):
        return checked(self.library.rd_kafka_mock_broker_set_down(self.cluster, int(broker)))

    def up(self, broker):
        return checked(self.library.rd_kafka_mock_broker_set_up(self.cluster, int(broker)))

    def partition(self, key):
        chosen = []
        producer = Producer({"bootstrap.servers": self.addresses, "partitioner": "murmur2_random"})
        producer.produce(TOPIC, key=key, value=b"", callback=lambda error, message: chosen.append((error, message)))
        producer.flush(20)
        ((error, message),) = chosen
        assert error is None, error
        return str(message.partition())

    def read(self, count):
        consumer = Consumer({"bootstrap.servers": self.addresses, "group.id": "test", "check.crcs": True})
        consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
        records = []
        while len(records) < int(count):
            messages = consumer.consume(int(count) - len(records), timeout=20)
            assert messages, f"only {len(records)} records came"
            for message in messages:
                assert message.error() is None, message.error()
                records.append(
                    {
                        "partition": message.partition(),
                        "key": message.key().decode(),
                        "time": message.timestamp()[1],
                        "headers": {name: value.decode() for name, value in message.headers() or []},
                        "value": message.value().decode(),
                    }
                )
        consumer.close()
        return json.dumps(records)


def main():
    cluster = Cluster()
    print(cluster.addresses, flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        print(getattr(cluster, name)(*arguments), flush=True)
    # The cluster's threads have nothing to tidy up.
    os._exit(0)


main()
