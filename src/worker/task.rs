//! One ingestion in the worker: its threads, its publisher, what becomes of its errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_background::Error as SourceError;
use basalt_background::ingest::{Limits, Outcome, Output, Prepared, Publisher, Runner, Spec};
use basalt_background::kafka::{KafkaSource, Options};
use basalt_background::source::Source;
use pgrx::PgSqlErrorCode;

use super::convert;
use super::process::{self, Failure};
use super::publish::CatalogPublisher;
use crate::catalog::datasource::{self, Datasource};
use crate::catalog::ingestion::{self, Ingestion};
use crate::catalog::ingestion_options::{IngestionOptions, Policy, check_owner, connection};
use crate::catalog::{cache, fields};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg;
use crate::pg::interrupts::SignalsBlocked;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// After a lock was found taken.
const RETRY: Duration = Duration::from_millis(20);
/// For so long a taken lock is nothing to mention.
const NOTICE: Duration = Duration::from_secs(3);
/// Bytes of memory that building one segment may take.
const BUILD_MEMORY: usize = 512 << 20;

pub struct Task {
    pub ingestion: Ingestion,
    state: State,
    /// The trouble that the catalog tells of.
    told: Option<String>,
    told_at: Option<Instant>,
    backoff: Duration,
}

enum State {
    /// To be started at a time.
    Waiting(Instant),
    Running(Box<Running>),
    /// Until a user does something.
    Stopped,
}

struct Running {
    runner: Runner,
    publisher: CatalogPublisher,
    datasource: Arc<Datasource>,
    /// Not published before, so that publishes begin `publish_interval` apart.
    next_publish: Instant,
    batch: Option<Box<Prepared>>,
    /// Since when a lock has been in the way.
    busy_since: Option<Instant>,
}

/// What the worker should do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again no later than after this time.
    Within(Duration),
    /// The catalog has changed: read it.
    Reload,
}

impl Task {
    pub fn new(ingestion: Ingestion) -> Self {
        let told = ingestion.error.clone();
        Task { ingestion, state: State::Waiting(Instant::now()), told, told_at: None, backoff: FIRST_BACKOFF }
    }

    /// Gives the threads up for somebody to wait for.
    pub fn into_runner(self) -> Option<Runner> {
        match self.state {
            State::Running(running) => Some(running.runner),
            _ => None,
        }
    }

    /// Does what is to be done now. `ended`: takes threads that are not needed any more; `notify`: wakes the main thread.
    pub fn step(&mut self, notify: &super::ingestion::Bell, ended: &mut Vec<Runner>) -> Next {
        match &mut self.state {
            State::Stopped => Next::Within(Duration::from_secs(10)),
            State::Waiting(until) => {
                let wait = until.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    return Next::Within(wait);
                }
                self.start(notify)
            }
            State::Running(_) => self.advance(ended),
        }
    }

    fn start(&mut self, notify: &super::ingestion::Bell) -> Next {
        let loaded = process::transaction(|| load(&self.ingestion));
        let (spec, options, datasource) = match loaded {
            Ok(loaded) => loaded,
            Err(failure) if is_permanent(&failure) => return self.fail(&failure.message, failure.hint.as_deref()),
            Err(failure) => return self.retry(&failure.message),
        };
        let topic = self.ingestion.topic.clone();
        let connect = move || Ok(Box::new(KafkaSource::new(&options, &topic)?) as Box<dyn Source>);
        let signals = SignalsBlocked::new();
        let started = Runner::start(spec, connect, notify.ringer());
        drop(signals);
        match started {
            Ok(runner) => {
                let publisher = CatalogPublisher::new(self.ingestion.clone(), datasource.schema_generation);
                let next_publish = Instant::now();
                self.state = State::Running(Box::new(Running {
                    runner,
                    publisher,
                    datasource,
                    next_publish,
                    batch: None,
                    busy_since: None,
                }));
                Next::Within(Duration::from_millis(100))
            }
            Err(error) => self.retry(&format!("could not start a thread: {error}")),
        }
    }

    fn advance(&mut self, ended: &mut Vec<Runner>) -> Next {
        let State::Running(running) = &mut self.state else { return Next::Reload };
        running.publisher.status = running.runner.status();
        if running.batch.is_none() {
            match running.runner.next() {
                None => {
                    let trouble = running.publisher.status.trouble.clone();
                    return self.tell(trouble);
                }
                Some(Output::Batch(batch)) => running.batch = Some(batch),
                Some(Output::Convert(decoded)) => {
                    let owner = self.ingestion.owner;
                    let datasource = running.datasource.clone();
                    match process::transaction(|| convert::convert(*decoded, &datasource, owner)) {
                        Ok(decoded) => running.runner.converted(decoded),
                        Err(failure) => return self.restart(&failure.message, ended),
                    }
                    return Next::Within(Duration::ZERO);
                }
                Some(Output::Failed(error)) => return self.failed(error, ended),
            }
        }
        let now = Instant::now();
        let wait = running.next_publish.saturating_duration_since(now);
        if !wait.is_zero() {
            return Next::Within(wait);
        }
        let Some(batch) = running.batch.take() else { return Next::Within(Duration::ZERO) };
        running.next_publish = now + publish_interval();
        match running.publisher.publish(&batch) {
            Ok(Outcome::Committed) => {
                running.busy_since = None;
                self.backoff = FIRST_BACKOFF;
                self.ingestion.topic_id = running.publisher.ingestion.topic_id;
                self.tell(None);
                Next::Within(Duration::ZERO)
            }
            Ok(Outcome::Busy) => {
                running.batch = Some(batch);
                running.next_publish = now + RETRY;
                let since = *running.busy_since.get_or_insert(now);
                if now.duration_since(since) >= NOTICE {
                    self.tell(Some("waits for a lock on the table or the ingestion, see pg_locks".into()));
                }
                Next::Within(RETRY)
            }
            Ok(Outcome::Conflict | Outcome::Fenced) => {
                self.halt(ended);
                self.state = State::Waiting(Instant::now());
                Next::Reload
            }
            Err(failure) => self.restart(&failure.message, ended),
        }
    }

    /// Hands the threads over to end by themselves.
    fn halt(&mut self, ended: &mut Vec<Runner>) {
        if let State::Running(running) = std::mem::replace(&mut self.state, State::Stopped) {
            running.runner.cancel();
            ended.push(running.runner);
        }
    }

    fn restart(&mut self, error: &str, ended: &mut Vec<Runner>) -> Next {
        self.halt(ended);
        self.retry(error)
    }

    fn retry(&mut self, error: &str) -> Next {
        process::log(format!("basalt ingestion \"{}\": {error}", self.ingestion.name));
        self.told_at = None;
        self.tell(Some(error.to_owned()));
        self.state = State::Waiting(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        Next::Within(FIRST_BACKOFF)
    }

    fn fail(&mut self, error: &str, hint: Option<&str>) -> Next {
        process::log(format!("basalt ingestion \"{}\" stopped: {error}", self.ingestion.name));
        self.state = State::Stopped;
        let done = process::transaction(|| {
            change(&self.ingestion.id)?;
            ingestion::fail(&self.ingestion, error, hint);
            Ok(())
        });
        match done {
            Ok(()) => Next::Reload,
            Err(failure) => self.retry(&failure.message),
        }
    }

    /// The threads ended with an error.
    fn failed(&mut self, error: SourceError, ended: &mut Vec<Runner>) -> Next {
        self.halt(ended);
        let options: IngestionOptions = serde_json::from_str(&self.ingestion.options).unwrap_or_default();
        let id = self.ingestion.id;
        let resolved = match (&error, options.on_offset_out_of_range, options.on_topic_recreated) {
            (SourceError::OffsetOutOfRange { partition, offset, low, high }, policy, _)
                if offset < low && policy != Policy::Stop =>
            {
                let next = if policy == Policy::Earliest { *low } else { *high };
                Some(process::transaction(|| {
                    change(&id)?;
                    ingestion::skip_to(&id, *partition, next);
                    Ok(())
                }))
            }
            (SourceError::TopicRecreated { .. }, _, Policy::Earliest | Policy::Latest) => {
                Some(process::transaction(|| {
                    change(&id)?;
                    ingestion::begin_new_source(&id, &pg::random_uuid());
                    Ok(())
                }))
            }
            _ => None,
        };
        match resolved {
            Some(Ok(())) => {
                process::log(format!("basalt ingestion \"{}\" went on after: {error}", self.ingestion.name));
                self.state = State::Waiting(Instant::now());
                Next::Reload
            }
            Some(Err(failure)) => self.retry(&failure.message),
            None if error.stops() => self.fail(&error.to_string(), error.hint().as_deref()),
            None => self.retry(&error.to_string()),
        }
    }

    /// Writes trouble, or its end, to the catalog: when it changes, and not more than once a second.
    fn tell(&mut self, trouble: Option<String>) -> Next {
        let idle = Next::Within(Duration::from_secs(1));
        let recently = self.told_at.is_some_and(|at| at.elapsed() < Duration::from_secs(1));
        if self.told == trouble || recently {
            return idle;
        }
        self.told_at = Some(Instant::now());
        let written = process::transaction(|| {
            // Whoever changes the ingestion now clears its error anyway.
            let free = ingestion::try_lock(&self.ingestion.id, pg::lock::Mode::Append);
            if free {
                ingestion::set_trouble(&self.ingestion, trouble.as_deref());
            }
            Ok(free)
        });
        match written {
            Ok(true) => self.told = trouble,
            Ok(false) => {}
            Err(failure) => process::warn(&failure, "basalt could not note an ingestion's state"),
        }
        idle
    }
}

/// Holds users' changes of the ingestion off. Errors: `LockNotAvailable` instead of waiting for one in progress.
fn change(ingestion: &[u8; 16]) -> Result<()> {
    if ingestion::try_lock(ingestion, pg::lock::Mode::Commit) {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "the ingestion is being changed by a user"))
}

fn publish_interval() -> Duration {
    Duration::from_millis(u64::try_from(guc::PUBLISH_INTERVAL.get()).unwrap_or(100))
}

/// Whether trying again is of no use before a user does something.
fn is_permanent(failure: &Failure) -> bool {
    use PgSqlErrorCode::*;
    matches!(
        failure.code,
        ERRCODE_FEATURE_NOT_SUPPORTED
            | ERRCODE_WRONG_OBJECT_TYPE
            | ERRCODE_UNDEFINED_OBJECT
            | ERRCODE_INSUFFICIENT_PRIVILEGE
            | ERRCODE_INVALID_PARAMETER_VALUE
            | ERRCODE_FDW_INVALID_OPTION_NAME
            | ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    )
}

/// Everything that the threads need, out of the catalog.
fn load(ingestion: &Ingestion) -> Result<(Spec, Options, Arc<Datasource>)> {
    check_owner(ingestion.relation, ingestion.owner)?;
    let options = connection(&ingestion.server, ingestion.owner)?;
    let datasource = datasource::open(ingestion.relation)?;
    let spec = Spec {
        topic: ingestion.topic.clone(),
        topic_id: ingestion.topic_id,
        schema: datasource.schema.clone(),
        fields: fields::of_table(ingestion.relation)?,
        checkpoint: ingestion::checkpoint(&ingestion.id),
        publish_interval: publish_interval(),
        limits: Limits::default(),
        build_memory: BUILD_MEMORY,
        spill_directory: Some(cache::directory()?),
    };
    Ok((spec, options, datasource))
}
