-- Users see the datasources that they may read.

CREATE VIEW basalt.datasources WITH (security_barrier) AS
SELECT d.relation AS datasource,
       d.id,
       d.current_version,
       d.schema_generation,
       s.segments,
       s.rows,
       s.bytes,
       d.created_at
FROM basalt.datasource d
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS segments,
           COALESCE(pg_catalog.sum(s.rows), 0)::bigint AS rows,
           COALESCE(pg_catalog.sum(s.bytes), 0)::bigint AS bytes
    FROM basalt.segment s
    WHERE s.datasource = d.id AND s.used
) s
WHERE pg_catalog.has_table_privilege(d.relation, 'SELECT');

CREATE VIEW basalt.segments WITH (security_barrier) AS
SELECT d.relation AS datasource,
       s.id,
       s.version,
       s.visibility,
       s.kind,
       s.rows,
       s.bytes,
       s.home,
       s.used,
       s.retired_at,
       s.created_at
FROM basalt.segment s
JOIN basalt.datasource d ON d.id = s.datasource
WHERE pg_catalog.has_table_privilege(d.relation, 'SELECT');

CREATE VIEW basalt.jobs WITH (security_barrier) AS
SELECT j.id,
       d.relation AS datasource,
       j.kind,
       j.state,
       j.started_at,
       j.finished_at,
       j.version,
       j.segments_in,
       j.segments_out,
       j.rows,
       j.error
FROM basalt.job j
JOIN basalt.datasource d ON d.id = j.datasource
WHERE pg_catalog.has_table_privilege(d.relation, 'SELECT');

GRANT SELECT ON basalt.datasources, basalt.segments, basalt.jobs TO PUBLIC;
