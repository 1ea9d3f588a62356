CREATE FUNCTION basalt.fdw_handler() RETURNS fdw_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_fdw_handler';
CREATE FUNCTION basalt.fdw_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_fdw_validator';
CREATE FUNCTION basalt.kafka_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_kafka_validator';
CREATE FUNCTION basalt.s3_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'basalt_s3_validator';

CREATE FOREIGN DATA WRAPPER basalt HANDLER basalt.fdw_handler VALIDATOR basalt.fdw_validator;
-- Connections, without tables of their own.
CREATE FOREIGN DATA WRAPPER basalt_kafka VALIDATOR basalt.kafka_validator;
CREATE FOREIGN DATA WRAPPER basalt_s3 VALIDATOR basalt.s3_validator;
CREATE SERVER basalt FOREIGN DATA WRAPPER basalt;
