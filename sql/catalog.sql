-- Tables that only the extension's functions write. Columns are read by position: new ones go to the end.

CREATE TABLE basalt.datasource (
    id uuid PRIMARY KEY,
    relation regclass NOT NULL,
    schema_generation int NOT NULL DEFAULT 1,
    next_column_id int NOT NULL DEFAULT 1,
    current_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    -- What each column id was when the table was last altered: {"3": {"name": ..., "type": ..., "typmod": ..., "stored": ...}}.
    columns jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX datasource_relation ON basalt.datasource (relation);

CREATE TABLE basalt.segment (
    id uuid PRIMARY KEY,
    datasource uuid NOT NULL,
    version bigint NOT NULL,
    -- Rows whose time is outside are not visible. Rows without a time are visible as long as the segment is used.
    visibility tstzmultirange NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fresh', 'derived', 'final')),
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    checksum bigint NOT NULL,
    home text NOT NULL DEFAULT 'catalog',
    used boolean NOT NULL DEFAULT true,
    retired_at timestamptz,
    statistics bytea NOT NULL,
    schema_generation int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- How a derived segment is merged: equal sources and an equal recipe give equal bytes.
    recipe text,
    -- Version that retired the segment.
    retired_version bigint,
    -- Version of the replace that wrote the segment; NULL: it was appended.
    created_version bigint
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, fillfactor = 80);
ALTER TABLE basalt.segment ALTER COLUMN statistics SET STORAGE EXTERNAL;
CREATE INDEX segment_datasource ON basalt.segment (datasource) WHERE used;
CREATE INDEX segment_retired ON basalt.segment (datasource, retired_at) WHERE NOT used;

CREATE TABLE basalt.segment_data (
    segment uuid NOT NULL,
    chunk int NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (segment, chunk)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
-- Segments are compressed already.
ALTER TABLE basalt.segment_data ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE basalt.segment_part (
    derived uuid NOT NULL,
    ordinal int NOT NULL,
    source uuid NOT NULL,
    visibility tstzmultirange NOT NULL,
    PRIMARY KEY (derived, ordinal)
);
CREATE INDEX segment_part_source ON basalt.segment_part (source);

-- Which offsets a segment holds: [first_offset, next_offset) of a partition.
CREATE TABLE basalt.segment_source (
    segment uuid NOT NULL,
    ingestion uuid NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (segment, ingestion, topic, partition, first_offset)
);

-- Rows of a segment that were deleted: a roaring bitmap of row numbers a delta.
CREATE TABLE basalt.segment_deletion (
    segment uuid NOT NULL,
    delta uuid NOT NULL,
    datasource uuid NOT NULL,
    rows bytea NOT NULL,
    PRIMARY KEY (segment, delta)
);

-- Replaces that can be undone: how many segments each wrote, retired and clipped.
CREATE TABLE basalt.datasource_version (
    datasource uuid NOT NULL,
    version bigint NOT NULL,
    reason text NOT NULL,
    created bigint NOT NULL,
    retired bigint NOT NULL,
    clipped bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (datasource, version)
);

-- What was visible of a segment before a version clipped it.
CREATE TABLE basalt.segment_clip (
    segment uuid NOT NULL,
    version bigint NOT NULL,
    visibility tstzmultirange NOT NULL,
    PRIMARY KEY (segment, version)
);

CREATE TABLE basalt.rule (
    datasource uuid NOT NULL,
    ordinal int NOT NULL,
    rule jsonb NOT NULL,
    PRIMARY KEY (datasource, ordinal)
);

-- Batch files that were loaded.
CREATE TABLE basalt.load_history (
    datasource uuid NOT NULL,
    key text NOT NULL,
    etag text NOT NULL,
    rows bigint NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (datasource, key, etag)
);

CREATE TABLE basalt.job (
    id uuid PRIMARY KEY,
    datasource uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('replace', 'compact', 'handoff', 'load', 'sweep', 'restore')),
    state text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at timestamptz,
    version bigint,
    segments_in bigint NOT NULL DEFAULT 0,
    segments_out bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    error text
);
CREATE INDEX job_datasource ON basalt.job (datasource, started_at);

SELECT pg_catalog.pg_extension_config_dump('basalt.datasource', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment_data', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment_part', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment_source', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment_deletion', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.datasource_version', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.segment_clip', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.rule', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.load_history', '');
SELECT pg_catalog.pg_extension_config_dump('basalt.job', '');
