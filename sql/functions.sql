CREATE FUNCTION basalt.on_ddl_command_end() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_on_ddl_command_end';
CREATE FUNCTION basalt.on_sql_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'basalt_on_sql_drop';
CREATE EVENT TRIGGER basalt_ddl_command_end ON ddl_command_end
    WHEN TAG IN ('CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER TABLE')
    EXECUTE FUNCTION basalt.on_ddl_command_end();
CREATE EVENT TRIGGER basalt_sql_drop ON sql_drop EXECUTE FUNCTION basalt.on_sql_drop();

CREATE FUNCTION basalt.assign_ids(datasource regclass) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_assign_ids';
COMMENT ON FUNCTION basalt.assign_ids IS
    'Assigns a datasource''s and its columns'' ids where an event trigger could not, as under session_replication_role = replica.';
