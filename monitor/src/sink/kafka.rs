//! Kafka and what speaks its protocol. A batch counts once all in-sync replicas have it (`acks=all`).

use std::{collections::BTreeMap, time};

use rskafka::{
    BackoffConfig,
    chrono::{DateTime, Utc},
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error as KafkaError, ProtocolError},
        partition::{Compression as WireCompression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    delivery::{BatchLimits, Delivered, Delivery, Failure, Item, Refused},
    fields::dataset_word,
    secret::{Secret, SecretError},
    tls::{TlsClient, TlsConfig, TlsError},
};
use crate::units::Duration;

/// Brokers take batches up to 1 MiB unless told otherwise (`max.message.bytes`), counted after compression.
const LIMITS: BatchLimits = BatchLimits { items: 1_000, bytes: 512 << 10 };

/// Settings of an output of type `kafka`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Host and port of some brokers; they tell the others.
    #[serde(deserialize_with = "brokers")]
    #[schemars(example = ["kafka-1.example.com:9093"])]
    pub brokers: Vec<String>,
    /// Topic. It must exist. The key of all records is this host's machine id, so one partition has them in order.
    pub topic: String,
    /// Compression of batches: "gzip" or "none".
    pub compression: Compression,
    /// Authorities, certificate and key: TLS is used if this table is there. `server_name` cannot be set here: brokers are
    /// checked by the names that they go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// How to log in (SASL), where the brokers want it: `mechanism` ("PLAIN", only over TLS, "SCRAM-SHA-256" or "SCRAM-SHA-512"),
    /// `username`, and the place of the `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Longest time for a batch, from connecting to the brokers' acknowledgement.
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: "egresswatch".to_owned(),
            compression: Compression::Gzip,
            tls: None,
            sasl: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Without a port there would be nothing to connect to, and no batch would ever arrive.
fn brokers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let brokers = Vec::<String>::deserialize(deserializer)?;
    let has_port = |broker: &&String| match broker.rsplit_once(':') {
        Some((host, port)) => {
            let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && is_bare && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => false,
    };
    match brokers.iter().position(|broker| !has_port(&broker)) {
        Some(index) => Err(de::Error::custom(format!(
            "the broker number {} is no host with a port: write one such as \"kafka-1.example.com:9093\"",
            index + 1
        ))),
        None => Ok(brokers),
    }
}

/// A login by SASL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How the password is shown to the brokers.
    pub mechanism: Mechanism,
    /// The user.
    pub username: String,
    /// The password, read anew for each connection.
    pub password: Secret,
}

/// SASL mechanisms by the names that Kafka has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Sasl {
    /// With the password as it is now.
    fn read(&self) -> Result<SaslConfig, SecretError> {
        let credentials = Credentials::new(self.username.clone(), self.password.read()?.to_string());
        Ok(match self.mechanism {
            Mechanism::Plain => SaslConfig::Plain(credentials),
            Mechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Mechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        })
    }
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As gzip does.
    Gzip,
    /// None.
    None,
}

/// Why an output of type `kafka` cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum KafkaOpenError {
    /// No broker.
    #[error("brokers is empty: write the host and port of a broker, such as [\"kafka-1.example.com:9093\"]")]
    NoBrokers,
    /// A broker that TLS cannot check.
    #[error("tls.server_name is not for Kafka, whose brokers tell their names themselves: leave it out")]
    ServerName,
    /// A password that everybody on the way could read.
    #[error(
        "sasl.mechanism PLAIN shows the password to everybody on the way: add tls = {{ ca = \"/path\" }}, or write \"SCRAM-SHA-512\""
    )]
    PlainWithoutTls,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Hands batches to a topic.
pub struct Kafka {
    description: String,
    config: KafkaConfig,
    tls: Option<TlsClient>,
    key: Vec<u8>,
    partition: Option<PartitionClient>,
}

impl Kafka {
    /// Checks the settings, certificates too. It connects with the first batch.
    pub fn open(config: &KafkaConfig) -> Result<Self, KafkaOpenError> {
        if config.brokers.is_empty() {
            return Err(KafkaOpenError::NoBrokers);
        }
        let mut tls = config.tls.clone().map(TlsClient::new);
        if let Some(client) = &mut tls {
            client.current()?;
        }
        if config.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
            return Err(KafkaOpenError::ServerName);
        }
        if config.tls.is_none() && config.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain) {
            return Err(KafkaOpenError::PlainWithoutTls);
        }
        let host = crate::host::read();
        Ok(Self {
            description: format!("kafka {} topic {}", config.brokers.join(","), config.topic),
            config: config.clone(),
            tls,
            key: host.machine_id.unwrap_or(host.hostname).into_bytes(),
            partition: None,
        })
    }

    async fn connect(&mut self) -> Result<PartitionClient, Failure> {
        let backoff = BackoffConfig { deadline: Some(self.config.timeout.get() / 2), ..BackoffConfig::default() };
        let mut builder =
            ClientBuilder::new(self.config.brokers.clone()).client_id("egresswatch").backoff_config(backoff);
        if let Some(tls) = &mut self.tls {
            builder = builder.tls_config(tls.current().map_err(|error| Failure::new(error.to_string()))?);
        }
        if let Some(sasl) = &self.config.sasl {
            builder = builder.sasl_config(sasl.read().map_err(|error| Failure::new(error.to_string()))?);
        }
        let client: Client = builder.build().await.map_err(|error| failure(&error))?;
        let topics = client.list_topics().await.map_err(|error| failure(&error))?;
        let topic = topics.into_iter().find(|topic| topic.name == self.config.topic);
        let partitions: Vec<i32> = topic.map(|topic| topic.partitions.into_iter().collect()).unwrap_or_default();
        let Some(partition) = choose(&self.key, &partitions) else {
            return Err(Failure::new(format!("the brokers have no topic {}: create it", self.config.topic)));
        };
        client
            .partition_client(self.config.topic.as_str(), partition, UnknownTopicHandling::Error)
            .await
            .map_err(|error| failure(&error))
    }

    async fn produce(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        let partition = match self.partition.take() {
            Some(partition) => partition,
            None => self.connect().await?,
        };
        let compression = match self.config.compression {
            Compression::Gzip => WireCompression::Gzip,
            Compression::None => WireCompression::NoCompression,
        };
        let mut refused = Vec::new();
        let mut done = 0;
        let mut most = batch.len();
        while let Some(part) = batch.get(done..(done + most).min(batch.len())).filter(|part| !part.is_empty()) {
            let records = part.iter().map(|item| record(&self.key, item)).collect();
            match partition.produce(records, compression).await {
                Ok(_) => done += part.len(),
                // One item too large spoils its whole batch; halving finds it.
                Err(error) if is_too_large(&error) && part.len() > 1 => most = part.len() / 2,
                Err(error) if is_too_large(&error) => {
                    let reason = "the brokers take no message as large as this (max.message.bytes)".to_owned();
                    refused.push(Refused { index: done, reason });
                    done += 1;
                }
                // The connection goes with `partition`: the next batch connects anew and asks who leads.
                Err(error) => return Err(Failure { confirmed: done, refused, ..failure(&error) }),
            }
        }
        self.partition = Some(partition);
        Ok(Delivered::but(refused))
    }
}

impl Delivery for Kafka {
    fn describe(&self) -> &str {
        &self.description
    }

    fn patience(&self) -> std::time::Duration {
        self.config.timeout.get()
    }

    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        let timeout = self.config.timeout.get();
        match tokio::time::timeout(timeout, self.produce(batch)).await {
            Ok(produced) => produced,
            Err(_) => Err(late(timeout)),
        }
    }

    fn reopen(&mut self) {
        self.partition = None;
        if let Some(tls) = &mut self.tls {
            tls.forget();
        }
    }

    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        let timeout = self.config.timeout.get();
        let connected = tokio::time::timeout(timeout, self.connect()).await.map_err(|_| late(timeout))?;
        self.partition = Some(connected?);
        Ok(Some(format!("the brokers have the topic {}", self.config.topic)))
    }
}

fn late(timeout: time::Duration) -> Failure {
    Failure::new(format!("the brokers acknowledged nothing within {} s", timeout.as_secs_f32()))
}

fn failure(error: &KafkaError) -> Failure {
    Failure::new(error.to_string())
}

fn is_too_large(error: &KafkaError) -> bool {
    let too_large = [ProtocolError::MessageTooLarge, ProtocolError::RecordListTooLarge];
    matches!(error, KafkaError::ServerError { protocol_error, .. } if too_large.contains(protocol_error))
}

fn record(key: &[u8], item: &Item) -> Record {
    let milliseconds = i64::try_from(item.time.unix_ns().div_euclid(1_000_000)).unwrap_or(i64::MAX);
    let headers = [("event.id", item.id.as_str()), ("event.dataset", dataset_word(item.dataset))];
    Record {
        key: Some(key.to_vec()),
        value: Some(item.bytes.to_vec()),
        headers: BTreeMap::from(headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))),
        timestamp: DateTime::<Utc>::from_timestamp_millis(milliseconds).unwrap_or_default(),
    }
}

/// The partition that Kafka's own producers choose for `key`, so that ours share it with others who use the key.
fn choose(key: &[u8], partitions: &[i32]) -> Option<i32> {
    let count = u32::try_from(partitions.len()).ok().filter(|count| *count > 0)?;
    let index = (murmur2(key) & 0x7fff_ffff) % count;
    partitions.get(usize::try_from(index).ok()?).copied()
}

/// `MurmurHash2` with the seed of Kafka's `Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::{Kafka, KafkaConfig, choose, murmur2};

    #[test]
    fn keys_are_hashed_as_kafka_does() {
        // From Apache Kafka's UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(choose(b"abc", &[0, 1, 2, 3]), Some(479_470_107 % 4));
        assert_eq!(choose(b"abc", &[]), None);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let open = |text: &str| Kafka::open(&toml::from_str::<KafkaConfig>(text).expect("read"));
        let error = open("").err().expect("no brokers").to_string();
        assert!(error.starts_with("brokers is empty"), "{error}");
        let login = "brokers = [\"127.0.0.1:9092\"]\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = { env = \"X\" } }";
        let error = open(login).err().expect("a password in the clear").to_string();
        assert!(error.starts_with("sasl.mechanism PLAIN shows"), "{error}");
        assert!(Kafka::open(&toml::from_str(&login.replace("PLAIN", "SCRAM-SHA-256")).expect("read")).is_ok());
        let kafka = open("brokers = [\"127.0.0.1:9092\"]").expect("good settings");
        assert_eq!(kafka.description, "kafka 127.0.0.1:9092 topic egresswatch");
    }

    use crate::sink::delivery::{Delivery as _, Item};

    #[tokio::test]
    async fn without_a_broker_the_batch_stays_here() {
        let text = "brokers = [\"127.0.0.1:9\"]\ntimeout = \"300ms\"";
        let mut kafka = Kafka::open(&toml::from_str(text).expect("read")).expect("good settings");
        let item = Item {
            id: "run-0".to_owned(),
            time: crate::alert::Timestamp::from_unix_ns(0),
            dataset: crate::alert::record::Dataset::Status,
            severity: None,
            bytes: bytes::Bytes::from_static(b"{}"),
        };
        let failure = kafka.deliver(&[item]).await.expect_err("nobody there");
        assert_eq!(failure.confirmed, 0);
    }
}
