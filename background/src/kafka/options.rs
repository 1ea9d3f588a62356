//! The connection options that users may set: an allow-list, because librdkafka's own options can load
//! libraries, run commands and read files.

use crate::{Error, Result};

/// Options of a server, as users write them (librdkafka's names with `_` for `.`).
pub const SERVER_OPTIONS: &[&str] = &[
    "bootstrap_servers",
    "security_protocol",
    "sasl_mechanism",
    "client_id",
    "client_rack",
    "ssl_ca_pem",
    "ssl_ca_location",
    "ssl_certificate_pem",
    "ssl_endpoint_identification_algorithm",
    "enable_ssl_certificate_verification",
    "broker_address_family",
    "socket_timeout_ms",
    "socket_keepalive_enable",
    "fetch_min_bytes",
    "fetch_wait_max_ms",
    "fetch_max_bytes",
    "max_partition_fetch_bytes",
    "receive_message_max_bytes",
    "reconnect_backoff_max_ms",
    "check_crcs",
];

/// Options of a user mapping: secrets, which nobody else can read.
pub const USER_OPTIONS: &[&str] = &["sasl_username", "sasl_password", "ssl_key_pem", "ssl_key_password"];

/// Options that name a file of the server: for superusers and pg_read_server_files only.
pub const FILE_OPTIONS: &[&str] = &["ssl_ca_location"];

/// What an option's value must be; `Ok` for options whose values only the broker can judge.
/// Errors: a sentence that says what is allowed.
pub fn check_option(name: &str, value: &str) -> Result<(), String> {
    let one_of = |allowed: &[&str]| {
        if allowed.iter().any(|a| a.eq_ignore_ascii_case(value)) {
            Ok(())
        } else {
            Err(format!("valid values are {}", allowed.join(", ")))
        }
    };
    let number = |low: i64, high: i64| match value.parse::<i64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(()),
        _ => Err(format!("a whole number from {low} to {high} is expected")),
    };
    match name {
        "bootstrap_servers" if value.trim().is_empty() => {
            Err("a list of host:port, separated by commas, is expected".into())
        }
        "security_protocol" => one_of(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]),
        "sasl_mechanism" => one_of(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        "ssl_endpoint_identification_algorithm" => one_of(&["none", "https"]),
        "enable_ssl_certificate_verification" | "socket_keepalive_enable" | "check_crcs" => one_of(&["true", "false"]),
        "broker_address_family" => one_of(&["any", "v4", "v6"]),
        "socket_timeout_ms" => number(100, 300_000),
        "fetch_min_bytes" => number(1, 100_000_000),
        "fetch_wait_max_ms" => number(0, 10_000),
        "fetch_max_bytes" => number(1024, 1_000_000_000),
        "max_partition_fetch_bytes" => number(1024, 1_000_000_000),
        "receive_message_max_bytes" => number(1_000_000, 2_000_000_000),
        "reconnect_backoff_max_ms" => number(0, 3_600_000),
        _ => Ok(()),
    }
}

/// A connection: options of the server and of the user mapping together.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    values: Vec<(String, String)>,
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl Options {
    /// Errors: `Configuration` for an option that is not on the list or has a value that cannot be.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let values: Vec<_> = values.into_iter().collect();
        for (name, value) in &values {
            if !SERVER_OPTIONS.contains(&name.as_str()) && !USER_OPTIONS.contains(&name.as_str()) {
                return Err(Error::Configuration(format!("option \"{name}\" is not known")));
            }
            check_option(name, value).map_err(|what| Error::Configuration(format!("option \"{name}\": {what}")))?;
        }
        Ok(Options { values })
    }

    /// The client library's configuration. The user's options come after ours, before those that
    /// correctness needs.
    pub(super) fn configuration(&self) -> Vec<(String, String)> {
        let tuned = [
            ("client.id", "basalt"),
            // A fetch waits a little for more, so that a trickle does not cost a request a message.
            ("fetch.min.bytes", "65536"),
            ("fetch.wait.max.ms", "40"),
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
            // librdkafka waits this long before it fetches again once its queue was full: a second by default.
            ("fetch.queue.backoff.ms", "5"),
            ("queued.min.messages", "100000"),
            ("queued.max.messages.kbytes", "16384"),
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("log_level", "2"),
        ];
        let required = [
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ];
        let own = |list: &[(&str, &str)]| list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<Vec<_>>();
        let mut all = own(&tuned);
        all.extend(self.values.iter().map(|(name, value)| (library_name(name), value.clone())));
        all.extend(own(&required));
        all
    }
}

/// librdkafka's name of an option.
fn library_name(name: &str) -> String {
    match name {
        "sasl_mechanism" => "sasl.mechanism".into(),
        "max_partition_fetch_bytes" => "max.partition.fetch.bytes".into(),
        _ => name.replace('_', "."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<Options> {
        Options::new(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())))
    }

    #[test]
    fn only_listed_options_pass() {
        assert!(options(&[("bootstrap_servers", "a:1"), ("sasl_password", "x")]).is_ok());
        for bad in
            ["plugin_library_paths", "sasl_kerberos_kinit_cmd", "group_id", "isolation_level", "ssl_key_location"]
        {
            assert!(options(&[(bad, "x")]).is_err(), "{bad}");
        }
        assert!(options(&[("security_protocol", "telnet")]).is_err());
        assert!(options(&[("fetch_min_bytes", "0")]).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", options(&[("sasl_password", "hunter2")]).unwrap());
        assert!(shown.contains("sasl_password") && !shown.contains("hunter2"));
    }

    #[test]
    fn users_cannot_override_what_correctness_needs() {
        let all = options(&[("fetch_min_bytes", "1")]).unwrap().configuration();
        let last = |name: &str| all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(last("fetch.min.bytes"), Some("1"));
        assert_eq!(last("isolation.level"), Some("read_committed"));
        assert_eq!(last("auto.offset.reset"), Some("error"));
    }
}
