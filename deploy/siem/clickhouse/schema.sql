-- EgressWatch records of a fleet in ClickHouse. Each record is kept as it came, in `record`; the other columns are read
-- from it. A record that arrives twice (delivery is at least once) is one row after a merge, and with FINAL at once.
CREATE DATABASE IF NOT EXISTS egresswatch;

CREATE TABLE IF NOT EXISTS egresswatch.events
(
    record String CODEC(ZSTD(3)),
    id String DEFAULT JSONExtractString(record, 'event', 'id'),
    time DateTime64(9, 'UTC') DEFAULT parseDateTime64BestEffort(JSONExtractString(record, '@timestamp'), 9, 'UTC'),
    dataset LowCardinality(String) DEFAULT JSONExtractString(record, 'event', 'dataset'),
    action LowCardinality(String) DEFAULT JSONExtractString(record, 'event', 'action'),
    severity UInt8 DEFAULT JSONExtractUInt(record, 'event', 'severity'),
    host LowCardinality(String) DEFAULT JSONExtractString(record, 'host', 'name'),
    executable LowCardinality(String) DEFAULT if(
        JSONHas(record, 'process', 'executable'),
        JSONExtractString(record, 'process', 'executable'),
        JSONExtractString(record, 'process', 'name')),
    sha256 String DEFAULT JSONExtractString(record, 'process', 'hash', 'sha256'),
    user LowCardinality(String) DEFAULT JSONExtractString(record, 'user', 'name'),
    direction LowCardinality(String) DEFAULT JSONExtractString(record, 'network', 'direction'),
    remote_ip String DEFAULT JSONExtractString(record, if(direction = 'ingress', 'source', 'destination'), 'ip'),
    remote_name String DEFAULT JSONExtractString(record, if(direction = 'ingress', 'source', 'destination'), 'domain'),
    asn UInt32 DEFAULT JSONExtractUInt(record, 'egresswatch', 'owner', 'asn'),
    organisation LowCardinality(String) DEFAULT JSONExtractString(record, 'egresswatch', 'owner', 'organisation'),
    lists Array(LowCardinality(String)) DEFAULT JSONExtract(record, 'egresswatch', 'lists', 'Array(String)'),
    -- Of the flow in a flow record; in an alert, what is new since the last alert on the same executable and owner.
    bytes_out UInt64 DEFAULT if(
        dataset = 'egresswatch.alert',
        JSONExtractUInt(record, 'egresswatch', 'increase', 'payload_out_bytes'),
        JSONExtractUInt(record, 'egresswatch', 'flow', 'out', 'payload_bytes'))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (host, dataset, time, id);

-- To forget old records:
-- ALTER TABLE egresswatch.events MODIFY TTL toDateTime(time) + INTERVAL 400 DAY;
