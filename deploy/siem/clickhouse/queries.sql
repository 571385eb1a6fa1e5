-- Questions to a fleet. Each stands alone; the test runs every one of them against real records.

-- name: owners-by-bytes
-- Which listed owners got how much, from how many hosts and programs?
SELECT organisation, asn, uniqExact(host) AS hosts, uniqExact(executable) AS programs, sum(bytes_out) AS bytes
FROM egresswatch.events FINAL
WHERE dataset = 'egresswatch.alert'
GROUP BY organisation, asn
ORDER BY bytes DESC;

-- name: programs-of-a-list
-- Which programs of which hosts reached owners on one list, since when, how often?
SELECT executable, host, min(time) AS first, max(time) AS last, count() AS alerts, sum(bytes_out) AS bytes
FROM egresswatch.events FINAL
WHERE dataset = 'egresswatch.alert' AND has(lists, 'us-fcc-covered')
GROUP BY executable, host
ORDER BY last DESC;

-- name: first-in-the-fleet
-- Which pairs of program and owner did no host of the fleet have before yesterday?
SELECT executable, organisation, min(time) AS first, any(host) AS host
FROM egresswatch.events FINAL
WHERE dataset = 'egresswatch.alert'
GROUP BY executable, organisation
HAVING first > now() - INTERVAL 1 DAY
ORDER BY first;

-- name: same-path-other-file
-- Is there a path under which hosts run different files?
SELECT executable, groupUniqArray(sha256) AS files, groupUniqArray(host) AS hosts
FROM egresswatch.events FINAL
WHERE sha256 != ''
GROUP BY executable
HAVING length(files) > 1;

-- name: blind-hosts
-- Which hosts lost something for good, or run degraded? No alerts from them is no proof of no contact.
SELECT host,
       sumIf(JSONExtractUInt(record, 'egresswatch', 'loss', 'count'),
             dataset = 'egresswatch.loss' AND NOT JSONExtractBool(record, 'egresswatch', 'loss', 'recoverable')) AS lost,
       groupUniqArrayIf(JSONExtractString(record, 'egresswatch', 'degradation', 'token'),
                        dataset = 'egresswatch.degradation') AS degradations
FROM egresswatch.events FINAL
WHERE dataset IN ('egresswatch.loss', 'egresswatch.degradation')
GROUP BY host
ORDER BY lost DESC;

-- name: silent-hosts
-- From which hosts has nothing come for a day?
SELECT host, max(time) AS last
FROM egresswatch.events FINAL
GROUP BY host
HAVING last < now() - INTERVAL 1 DAY
ORDER BY last;
