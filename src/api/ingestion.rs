//! SQL functions that make and change ingestions.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use basalt_background::Error as SourceError;
use basalt_background::checkpoint::{Checkpoint, keep_straddling, plan_rewind};
use basalt_background::kafka::{KafkaAdmin, Options};
use basalt_background::source::TopicDescription;
use pgrx::{PgSqlErrorCode, ereport, pg_sys};

use super::require_ownership;
use crate::catalog::ingestion::{self, Ingestion};
use crate::catalog::ingestion_options::{IngestionOptions, Start, connection};
use crate::catalog::{datasource, fields, publish, tables};
use crate::error::{Error, Result};
use crate::pg::function::{Arguments, function, void};
use crate::pg::interrupts::{self, SignalsBlocked};
use crate::pg::lock::{self, Mode};
use crate::pg::values::varlena_datum;
use crate::pg::workers::{Kind, call_at_commit, is_preloaded};
use crate::pg::{random_uuid, session};

/// How long the cluster may take to answer.
const QUESTION: Duration = Duration::from_secs(10);

function!(pg_finfo_basalt_create_ingestion, basalt_create_ingestion, create);
function!(pg_finfo_basalt_pause_ingestion, basalt_pause_ingestion, pause);
function!(pg_finfo_basalt_resume_ingestion, basalt_resume_ingestion, resume);
function!(pg_finfo_basalt_drop_ingestion, basalt_drop_ingestion, drop);
function!(pg_finfo_basalt_reset_ingestion, basalt_reset_ingestion, reset);

fn parameter(message: String) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

/// `(table regclass, server name, topic text, format text, options jsonb, name text) -> text`
fn create(arguments: &Arguments) -> Result<pg_sys::Datum> {
    let relation = arguments.relation(0)?;
    require_ownership(relation)?;
    let table = datasource::open(relation)?;
    let null =
        |what: &str| Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("the {what} must not be NULL"));
    let server = arguments.name(1).ok_or_else(|| null("server"))?;
    let topic = arguments.text(2).ok_or_else(|| null("topic"))?;
    let format = arguments.text(3).unwrap_or_else(|| "json".into());
    if format != "json" {
        return Err(parameter(format!("message format \"{format}\" is not known")).hint("Formats: json."));
    }
    check_topic(&topic)?;
    let options_text = arguments.get(4).map_or_else(|| "{}".into(), json_text);
    let options: IngestionOptions = serde_json::from_str(&options_text).map_err(|e| {
        parameter(format!("invalid ingestion options: {e}")).hint(
            "Options: start ('earliest', 'latest'), on_offset_out_of_range ('stop', 'earliest', 'latest'), \
             on_topic_recreated ('stop', 'earliest').",
        )
    })?;
    let name = arguments.text(5).unwrap_or_else(|| datasource::name(relation));
    let owner = session::user();
    let connection = connection(&server, owner)?;
    // What messages cannot fill is said now, not in the worker.
    fields::of_table(relation)?;
    if !is_preloaded() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "ingestions need the library \"basalt\" to be loaded at server start",
        )
        .hint("Add basalt to shared_preload_libraries in postgresql.conf and restart the server."));
    }
    let ingestion = Ingestion {
        id: random_uuid(),
        name: name.clone(),
        datasource: table.id,
        relation,
        owner,
        server,
        topic,
        format,
        options: options_text,
        state: "running".into(),
        generation: 1,
        topic_id: None,
        source: random_uuid(),
        error: None,
    };
    // The datasource's row, which a restored table may lack.
    lock::acquire(tables::datasource_class(), &table.id, Mode::Append);
    publish::current_version(&table)?;
    if !ingestion::insert(&ingestion) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("ingestion \"{name}\" already exists"),
        )
        .hint("Give another name with name => '...', or drop it with basalt.drop_ingestion()."));
    }
    if options.start == Start::Latest {
        let cluster = ask(connection, &ingestion.topic, Question::Bounds)?;
        for (partition, (_, high)) in cluster.bounds.iter().enumerate() {
            ingestion::set_offset(&ingestion.id, partition as i32, *high, Some(*high));
        }
        if let Some(id) = cluster.topic.id {
            ingestion::set_topic(&ingestion.id, &id);
        }
    }
    call_at_commit(&Kind::ALL);
    Ok(varlena_datum(name.as_bytes()))
}

/// Kafka's own rule.
fn check_topic(topic: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") || !topic.chars().all(legal) {
        return Err(parameter(format!("\"{topic}\" is not the name of a topic"))
            .hint("Up to 249 letters, digits, dots, underscores and hyphens."));
    }
    Ok(())
}

fn json_text(datum: pg_sys::Datum) -> String {
    crate::pg::values::output(pg_sys::JSONBOID, datum)
}

/// The ingestion of argument 0, which the current user may change, locked against publishes.
fn lock_own(arguments: &Arguments) -> Result<Ingestion> {
    let name = arguments.text(0).unwrap_or_default();
    let found = find_own(&name)?;
    ingestion::lock(&found.id, Mode::Commit);
    find_own(&name)
}

fn find_own(name: &str) -> Result<Ingestion> {
    let unknown = || {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("ingestion \"{name}\" does not exist"))
            .hint("See basalt.ingestion_status.")
    };
    let found = ingestion::by_name(name).ok_or_else(unknown)?;
    if datasource::is_datasource(found.relation) {
        require_ownership(found.relation)?;
    }
    Ok(found)
}

fn pause(arguments: &Arguments) -> Result<pg_sys::Datum> {
    let ingestion = lock_own(arguments)?;
    ingestion::set_state(&ingestion.id, "paused");
    call_at_commit(&[Kind::Ingestion]);
    Ok(void())
}

fn resume(arguments: &Arguments) -> Result<pg_sys::Datum> {
    let ingestion = lock_own(arguments)?;
    if ingestion.state != "running" {
        ingestion::set_state(&ingestion.id, "running");
    }
    call_at_commit(&Kind::ALL);
    Ok(void())
}

fn drop(arguments: &Arguments) -> Result<pg_sys::Datum> {
    let ingestion = lock_own(arguments)?;
    ingestion::drop(&ingestion.id);
    call_at_commit(&[Kind::Ingestion]);
    Ok(void())
}

/// Where to go.
enum Target {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Time(i64),
    Offsets(Vec<(i32, i64)>),
}

fn target(text: &str) -> Result<Target> {
    match text.trim() {
        "earliest" => return Ok(Target::Earliest),
        "latest" => return Ok(Target::Latest),
        offsets if offsets.starts_with('{') => return offsets_of(offsets),
        _ => {}
    }
    let read = crate::pg::values::input(pg_sys::TIMESTAMPTZOID, -1, text)?;
    let micros = read.value() as i64;
    // Milliseconds from 1970 to 2000.
    Ok(Target::Time(micros.div_euclid(1000).saturating_add(946_684_800_000)))
}

fn offsets_of(text: &str) -> Result<Target> {
    let bad = |what: &str| {
        parameter(format!("invalid offsets: {what}"))
            .hint("Offsets are given by partition, such as {\"0\": 42, \"1\": 17}.")
    };
    let map: std::collections::BTreeMap<String, i64> = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
    let one = |(partition, offset): (String, i64)| match partition.parse::<i32>() {
        Ok(p) if p >= 0 && offset >= 0 => Ok((p, offset)),
        _ => Err(bad(&format!("\"{partition}\": {offset}"))),
    };
    map.into_iter().map(one).collect::<Result<_>>().map(Target::Offsets)
}

/// `(name text, to text) -> jsonb`
fn reset(arguments: &Arguments) -> Result<pg_sys::Datum> {
    let name = arguments.text(0).unwrap_or_default();
    let target = target(&arguments.text(1).unwrap_or_default())?;
    let found = find_own(&name)?;
    let connection = connection(&found.server, found.owner)?;
    let question = match target {
        Target::Time(time) => Question::At(time),
        _ => Question::Bounds,
    };
    let cluster = ask(connection, &found.topic, question)?;
    // From here on publishes wait, and are refused afterwards.
    ingestion::lock(&found.id, Mode::Commit);
    let mut ingestion = find_own(&name)?;
    let recreated = matches!((ingestion.topic_id, cluster.topic.id), (Some(old), Some(new)) if old != new);
    if recreated {
        ingestion.source = random_uuid();
        ingestion::begin_new_source(&ingestion.id, &ingestion.source);
    }
    let next = plan(&ingestion, &target, &cluster)?;
    for (partition, offset) in next.iter() {
        let end = cluster.bounds.get(partition as usize).map(|b| b.1);
        ingestion::set_offset(&ingestion.id, partition, offset, end);
        ingestion::remove_dead_letters(&ingestion, partition, offset);
    }
    if let Some(id) = cluster.topic.id {
        ingestion::set_topic(&ingestion.id, &id);
    }
    ingestion::set_state(&ingestion.id, if ingestion.state == "paused" { "paused" } else { "running" });
    call_at_commit(&Kind::ALL);
    let shown: serde_json::Map<String, serde_json::Value> =
        next.iter().map(|(p, offset)| (p.to_string(), offset.into())).collect();
    crate::pg::values::input(pg_sys::JSONBOID, -1, &serde_json::Value::Object(shown).to_string())
}

/// The next offset of every partition, with the segments retired that hold what will be read again.
fn plan(ingestion: &Ingestion, target: &Target, cluster: &Cluster) -> Result<Checkpoint> {
    let count = cluster.bounds.len();
    let bounds = |p: i32| cluster.bounds.get(p as usize).copied();
    let mut wish = Checkpoint::default();
    match target {
        Target::Earliest => (0..count).for_each(|p| wish.set(p as i32, cluster.bounds[p].0)),
        Target::Latest => (0..count).for_each(|p| wish.set(p as i32, cluster.bounds[p].1)),
        Target::Time(_) => (0..count).for_each(|p| wish.set(p as i32, cluster.at[p].max(cluster.bounds[p].0))),
        Target::Offsets(offsets) => {
            for (partition, offset) in offsets {
                let (low, high) = bounds(*partition).ok_or_else(|| {
                    parameter(format!("topic \"{}\" has no partition {partition}", ingestion.topic))
                        .detail(format!("It has {count}."))
                })?;
                if !(low..=high).contains(offset) {
                    return Err(parameter(format!("offset {offset} of partition {partition} is out of range"))
                        .detail(format!("The partition holds offsets {low} to {high}.")));
                }
                wish.set(*partition, *offset);
            }
        }
    }
    let held = ingestion::provenance(&ingestion.source);
    if matches!(target, Target::Earliest) {
        wish = keep_straddling(&held, &wish);
    }
    let current = ingestion::checkpoint(&ingestion.id);
    let rewind = plan_rewind(&held, &wish);
    for (partition, offset) in rewind.next.iter() {
        if let Some((low, _)) = bounds(partition).filter(|(low, _)| offset < *low) {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("going back needs offset {offset} of partition {partition}, which the topic has deleted"),
            )
            .detail(format!(
                "Segments are read again whole; the oldest one concerned begins there. The partition begins at {low}."
            ))
            .hint("Use to => 'earliest', or a later offset."));
        }
    }
    let goes_back = rewind.next.iter().any(|(p, offset)| current.next_offset(p).is_some_and(|now| offset < now));
    if goes_back {
        lock::acquire(tables::datasource_class(), &ingestion.datasource, Mode::Commit);
        let retired = ingestion::retire(ingestion, &rewind.retire, &rewind.next)?;
        ereport!(
            pgrx::PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("{retired} segments retired; their messages will be read again")
        );
    }
    // Partitions that nothing was said of stay where they are.
    let mut next = current;
    rewind.next.iter().for_each(|(p, offset)| next.set(p, offset));
    Ok(next)
}

/// What is asked of a cluster.
#[derive(Clone, Copy)]
enum Question {
    Bounds,
    /// Also the first offset at a time (milliseconds since 1970).
    At(i64),
}

struct Cluster {
    topic: TopicDescription,
    bounds: Vec<(i64, i64)>,
    at: Vec<i64>,
}

/// Asks on a thread of its own, so that the session can be canceled meanwhile.
fn ask(options: Options, topic: &str, question: Question) -> Result<Cluster> {
    let (answer, answers) = sync_channel(1);
    let owned = topic.to_owned();
    let signals = SignalsBlocked::new();
    let thread = std::thread::Builder::new().name("basalt question".into()).spawn(move || {
        let asked = || -> basalt_background::Result<Cluster> {
            let admin = KafkaAdmin::new(&options, &owned)?;
            let topic = admin.describe(QUESTION)?;
            let bounds = admin.bounds(topic.partitions, QUESTION)?;
            let at = match question {
                Question::Bounds => Vec::new(),
                Question::At(time) => admin.offsets_at(topic.partitions, time, QUESTION)?,
            };
            Ok(Cluster { topic, bounds, at })
        };
        let _ = answer.send(asked());
    });
    std::mem::drop(signals);
    thread.map_err(|e| Error::io(&e, "start a thread"))?;
    loop {
        match answers.recv_timeout(Duration::from_millis(10)) {
            Ok(Ok(cluster)) => return Ok(cluster),
            Ok(Err(error)) => return Err(of_source(&error, topic)),
            // The thread keeps nothing of PostgreSQL's and ends by itself.
            Err(RecvTimeoutError::Timeout) => interrupts::check(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the question to the cluster was lost"));
            }
        }
    }
}

fn of_source(error: &SourceError, topic: &str) -> Error {
    let code = match error {
        SourceError::UnknownTopic { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        SourceError::Configuration(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        _ => PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
    };
    let made = Error::new(code, format!("could not ask the cluster about topic \"{topic}\"")).detail(error.to_string());
    match error.hint() {
        Some(hint) => made.hint(hint),
        None => made.hint("Check the server's bootstrap_servers and the user mapping."),
    }
}
