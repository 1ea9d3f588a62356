CREATE FUNCTION basalt.on_ddl_command_end() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_on_ddl_command_end';
CREATE FUNCTION basalt.on_sql_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_on_sql_drop';
CREATE EVENT TRIGGER basalt_ddl_command_end ON ddl_command_end
    WHEN TAG IN ('CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER TABLE', 'ALTER TYPE')
    EXECUTE FUNCTION basalt.on_ddl_command_end();
CREATE EVENT TRIGGER basalt_sql_drop ON sql_drop EXECUTE FUNCTION basalt.on_sql_drop();

CREATE FUNCTION basalt.assign_ids(datasource regclass) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_assign_ids';
COMMENT ON FUNCTION basalt.assign_ids IS
    'Assigns a datasource''s and its columns'' ids where an event trigger could not, as under session_replication_role = replica.';

CREATE FUNCTION basalt.replace(datasource regclass, start anycompatible, "end" anycompatible, query text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_replace';
COMMENT ON FUNCTION basalt.replace IS
    'Replaces the rows from start (inclusive) to end (exclusive) by those of the query, atomically; NULL: without end. Returns the rows written.';

CREATE FUNCTION basalt.restore_version(datasource regclass, version bigint) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_restore_version';
COMMENT ON FUNCTION basalt.restore_version IS
    'Undoes the replaces after the version, while basalt.segment_retention keeps what they hid. Returns the new version.';

CREATE FUNCTION basalt.compact(datasource regclass) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_compact';
COMMENT ON FUNCTION basalt.compact IS
    'Merges the segments of each interval into few. Returns how many segments were written.';

CREATE FUNCTION basalt.sweep_counts() RETURNS bigint[]
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_sweep';
REVOKE ALL ON FUNCTION basalt.sweep_counts() FROM PUBLIC;
CREATE FUNCTION basalt.sweep(OUT segments bigint, OUT datasources bigint, OUT files bigint)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    AS 'SELECT c[1], c[2], c[3] FROM basalt.sweep_counts() AS c';
REVOKE ALL ON FUNCTION basalt.sweep() FROM PUBLIC;
COMMENT ON FUNCTION basalt.sweep() IS
    'Removes retired segments past basalt.segment_retention, data of tables that are gone, and cache files without a segment.';

CREATE FUNCTION basalt.thread_counts() RETURNS bigint[]
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_thread_counts';
CREATE FUNCTION basalt.threads(OUT total bigint, OUT interactive bigint, OUT reporting bigint, OUT waiting_reports bigint)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    AS 'SELECT c[1], c[2], c[3], c[4] FROM basalt.thread_counts() AS c';
COMMENT ON FUNCTION basalt.threads IS
    'Threads that queries may use in all sessions together, those that interactive and reporting queries use now, and reports that wait for a turn.';
