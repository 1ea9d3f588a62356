-- Ingestions: what is read from where, how far, and what could not be a row.

CREATE TABLE basalt.ingestion (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    datasource uuid NOT NULL,
    relation regclass NOT NULL,
    -- With whose user mapping the server is reached.
    owner regrole NOT NULL,
    server text NOT NULL,
    topic text NOT NULL,
    format text NOT NULL CHECK (format IN ('json')),
    options jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL CHECK (state IN ('running', 'paused', 'failed')),
    -- Counts changes by users: a publish that was prepared before one is refused.
    generation bigint NOT NULL DEFAULT 1,
    -- The topic as the cluster knows it; another one of the same name has another id.
    topic_id uuid,
    -- Stands for this ingestion of this very topic in segment_source and dead_letter.
    source uuid NOT NULL,
    error text,
    error_hint text,
    error_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX ingestion_datasource ON basalt.ingestion (datasource);

-- Rows change at every publish: room for them on their pages, and no index on what changes.
CREATE TABLE basalt.ingestion_offset (
    ingestion uuid NOT NULL,
    partition int NOT NULL,
    -- The first offset that is not published.
    next_offset bigint NOT NULL,
    -- The offset after the partition's last message, when last seen.
    end_offset bigint,
    newest timestamptz,
    messages bigint NOT NULL DEFAULT 0,
    -- Messages a second, smoothed, at the last publish.
    rate real NOT NULL DEFAULT 0,
    published_at timestamptz,
    PRIMARY KEY (ingestion, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE basalt.dead_letter (
    ingestion uuid NOT NULL,
    source uuid NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    message_offset bigint NOT NULL,
    message_time timestamptz,
    key bytea,
    message bytea,
    error text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (ingestion, source, partition, message_offset)
);

CREATE INDEX segment_source_ingestion ON basalt.segment_source (ingestion, partition, next_offset);

SELECT pg_catalog.pg_extension_config_dump('basalt.ingestion', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.ingestion_offset', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.dead_letter', '');

CREATE FUNCTION basalt.create_ingestion("table" regclass, server name, topic text, format text DEFAULT 'json',
                                        options jsonb DEFAULT '{}', name text DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'basalt_create_ingestion';
COMMENT ON FUNCTION basalt.create_ingestion IS
    'Reads a Kafka topic into a datasource from now on. Options: start, on_offset_out_of_range, on_topic_recreated. Returns the ingestion''s name.';

CREATE FUNCTION basalt.pause_ingestion(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'basalt_pause_ingestion';
CREATE FUNCTION basalt.resume_ingestion(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'basalt_resume_ingestion';
CREATE FUNCTION basalt.drop_ingestion(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'basalt_drop_ingestion';
COMMENT ON FUNCTION basalt.drop_ingestion IS 'Ends an ingestion; rows that it published stay.';

CREATE FUNCTION basalt.reset_ingestion(name text, "to" text) RETURNS jsonb
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'basalt_reset_ingestion';
COMMENT ON FUNCTION basalt.reset_ingestion IS
    'Moves an ingestion to earliest, latest, a time, or offsets by partition such as {"0": 42}. Going back retires the segments that hold what will be read again. Returns the next offset of each partition.';

CREATE FUNCTION basalt.handoff(datasource regclass) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_handoff';
COMMENT ON FUNCTION basalt.handoff IS
    'Moves the rows of closed intervals from small segments to final ones now. Returns how many were written.';

CREATE VIEW basalt.ingestion_status WITH (security_barrier) AS
SELECT i.name, i.relation AS "table", i.server, i.topic, i.state,
       o.partitions, o.messages, o.lag_messages,
       CASE WHEN o.lag_messages = 0 THEN 0
            ELSE pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - o.newest)::numeric, 3)
       END AS lag_seconds,
       CASE WHEN o.published_at > pg_catalog.clock_timestamp() - interval '10 seconds' THEN o.rate ELSE 0 END AS messages_per_second,
       o.published_at AS last_published_at,
       i.error AS last_error, i.error_hint AS hint, i.error_at AS last_error_at,
       d.dead_letters, o.next_offsets
FROM basalt.ingestion i
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS partitions,
           COALESCE(pg_catalog.sum(p.messages), 0)::bigint AS messages,
           COALESCE(pg_catalog.sum(GREATEST(p.end_offset - p.next_offset, 0)), 0)::bigint AS lag_messages,
           COALESCE(pg_catalog.sum(p.rate), 0)::real AS rate,
           pg_catalog.max(p.newest) AS newest,
           pg_catalog.max(p.published_at) AS published_at,
           pg_catalog.jsonb_object_agg(p.partition::text, p.next_offset) AS next_offsets
    FROM basalt.ingestion_offset p WHERE p.ingestion = i.id) o
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS dead_letters FROM basalt.dead_letter l WHERE l.ingestion = i.id) d
WHERE pg_catalog.has_table_privilege(i.relation, 'SELECT');

CREATE VIEW basalt.dead_letters WITH (security_barrier) AS
SELECT i.name, i.relation AS "table", l.topic, l.partition, l.message_offset AS "offset", l.message_time AS "timestamp",
       l.key, l.message, l.error, l.created_at
FROM basalt.dead_letter l JOIN basalt.ingestion i ON i.id = l.ingestion
WHERE pg_catalog.has_table_privilege(i.relation, 'SELECT');

GRANT SELECT ON basalt.ingestion_status, basalt.dead_letters TO PUBLIC;
