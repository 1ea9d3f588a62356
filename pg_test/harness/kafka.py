"""One Apache Kafka 4.1 server in KRaft mode: broker and controller in a single process."""

import base64
import signal
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from . import system


def libraries() -> Path:
    """The directory of Kafka's jar files, which scripts/setup.sh fills."""
    directory = system.cache_directory() / "kafka" / "libs"
    if not list(directory.glob("kafka_2.13-*.jar")):
        raise RuntimeError(f"Kafka is not in {directory}; run scripts/setup.sh")
    return directory


class Kafka:
    """A server below `directory`, or a new directory of its own. `config` adds to its properties."""

    def __init__(self, directory: Path | None = None, config: dict | None = None, heap: str = "512m"):
        self.directory = directory or system.make_directory("kafka")
        self.port, self.controller_port = system.free_port(), system.free_port()
        self.heap = heap
        self.properties = self.directory / "server.properties"
        self.log = self.directory / "log"
        self.process: subprocess.Popen | None = None
        self.topics = 0
        self.config = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / "data",
            # A killed broker's registration stands in the way of its next start until its session has ended.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.retention.check.interval.ms": 1000,
            "log.cleaner.backoff.ms": 200,
            "delete.topic.enable": "true",
        } | (config or {})

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    # Life cycle

    def init(self) -> "Kafka":
        self.config |= {
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
        }
        self.properties.write_text("".join(f"{k}={v}\n" for k, v in self.config.items()))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.tool("kafka.tools.StorageTool", "format", "-t", "A" + cluster_id[1:], "-c", self.properties)
        return self

    def java(self, *options) -> list[str]:
        return ["java", "-XX:+UseSerialGC", *options, "-cp", f"{libraries()}/*"]

    def tool(self, main_class: str, *arguments) -> str:
        """Run one of Kafka's own command-line classes."""
        result = subprocess.run(
            [*self.java("-Xmx256m"), main_class, *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.directory,
        )
        if result.returncode != 0:
            raise RuntimeError(f"{main_class} ended with {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    def start(self, timeout: float = 60) -> "Kafka":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.java(f"-Xmx{self.heap}"), "kafka.Kafka", str(self.properties)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True,
            )
        system.wait_until(self._answers, timeout, f"start of Kafka in {self.directory}\n{self.log_tail()}")
        return self

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"Kafka ended with {self.process.returncode} while it started\n{self.log_tail()}")
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def stop(self, timeout: float = 30) -> None:
        if self.process is not None:
            system.send_signal(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """kill -9; the files stay as they are."""
        if self.process is not None:
            system.send_signal(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def restart(self) -> "Kafka":
        self.stop()
        return self.start()

    def destroy(self) -> None:
        self.kill()
        system.remove_directory(self.directory)

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    # Topics

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topic(self, name: str | None = None, partitions: int = 1, config: dict | None = None) -> str:
        """Create a topic and wait until its partitions have a leader; a name is made when none is given."""
        if name is None:
            self.topics += 1
            name = f"topic-{self.topics}"
        admin = self.admin()
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin.create_topics([topic], operation_timeout=30)[name].result(30)
        system.wait_until(lambda: self._partitions(admin, name) == partitions, 30, f"topic {name}")
        return name

    @staticmethod
    def _partitions(admin: AdminClient, name: str) -> int:
        topic = admin.list_topics(name, timeout=10).topics[name]
        return sum(p.leader >= 0 and p.error is None for p in topic.partitions.values())

    def delete_topic(self, name: str) -> None:
        admin = self.admin()
        admin.delete_topics([name], operation_timeout=30)[name].result(30)
        system.wait_until(lambda: name not in admin.list_topics(timeout=10).topics, 30, f"deletion of topic {name}")

    def add_partitions(self, name: str, total: int) -> None:
        admin = self.admin()
        admin.create_partitions([NewPartitions(name, total)])[name].result(30)
        system.wait_until(lambda: self._partitions(admin, name) == total, 30, f"partitions of {name}")

    def alter_topic(self, name: str, config: dict) -> None:
        """Replace the topic's configuration."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, set_config=config)
        admin = self.admin()  # an admin client that is collected never answers its futures
        admin.alter_configs([resource])[resource].result(30)

    def delete_records(self, name: str, before: int, partition: int = 0) -> None:
        """Let the records before offset `before` age out at once."""
        place = TopicPartition(name, partition, before)
        admin = self.admin()
        admin.delete_records([place])[place].result(30)

    def watermarks(self, name: str, partition: int = 0) -> tuple[int, int]:
        """First offset that is still there and the next that will be written."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "watermarks", "log_level": 0})
        try:
            return consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=30)
        finally:
            consumer.close()

    # Messages

    def producer(self, **options) -> Producer:
        settings = {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "log_level": 0, "queue.buffering.max.messages": 1000000}
        return Producer(settings | {k.replace("_", "."): v for k, v in options.items()})

    def produce(self, topic: str, messages, partition: int | None = None, **options) -> int:
        """Send values (bytes, str, None for a tombstone) or (key, value) pairs, wait until all are acknowledged and
        return their number; RuntimeError when one isn't."""
        producer, failures, sent = self.producer(**options), [], 0
        where = {} if partition is None else {"partition": partition}

        def delivered(error, _message):
            if error is not None:
                failures.append(error)

        for message in messages:
            key, value = message if isinstance(message, tuple) else (None, message)
            while True:
                try:
                    producer.produce(topic, value, key, on_delivery=delivered, **where)
                    break
                except BufferError:
                    producer.poll(0.1)
            sent += 1
            if sent % 1000 == 0:
                producer.poll(0)
        if producer.flush(60) or failures:
            raise RuntimeError(f"{topic}: not delivered: {failures[:3]}")
        return sent
