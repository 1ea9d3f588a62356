//! The ingestion state machine on a simulated topic and catalog: whatever crashes when, every message is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basalt_background::checkpoint::Checkpoint;
use basalt_background::ingest::{Builder, Fetcher, Limits, Outcome, Output, Prepared, Publisher, Runner, Spec};
use basalt_background::json::{Field, Parse};
use basalt_background::source::{Describe, Event, Message, Source, TopicDescription};
use basalt_background::{Error, Result};
use basalt_engine::Cancel;
use basalt_engine::segment::{Segment, SegmentBytes};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use proptest::prelude::*;

/// A topic: for each partition its messages (offset, number), a gap where a number is missing, and where it ends.
#[derive(Default)]
struct Topic {
    id: [u8; 16],
    partitions: Vec<Partition>,
}

#[derive(Default, Clone)]
struct Partition {
    low: i64,
    end: i64,
    messages: BTreeMap<i64, u64>,
}

type SharedTopic = Arc<Mutex<Topic>>;

struct FakeSource {
    topic: SharedTopic,
    positions: BTreeMap<i32, i64>,
    /// Messages handed over a poll.
    pace: usize,
    again: bool,
}

struct FakeDescribe(SharedTopic);

impl Describe for FakeDescribe {
    fn describe(&mut self, _: Duration) -> Result<TopicDescription> {
        let topic = self.0.lock().unwrap();
        Ok(TopicDescription { id: Some(topic.id), partitions: topic.partitions.len() as i32 })
    }
}

impl Source for FakeSource {
    fn assign(&mut self, partition: i32, offset: i64) -> Result<()> {
        self.positions.insert(partition, offset);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, sink: &mut dyn FnMut(Event<'_>) -> bool) -> Result<()> {
        let topic = self.topic.lock().unwrap();
        let mut left = self.pace;
        for (partition, position) in &mut self.positions {
            let data = &topic.partitions[*partition as usize];
            if *position < data.low {
                let (low, high) = (data.low, data.end);
                return Err(Error::OffsetOutOfRange { partition: *partition, offset: *position, low, high });
            }
            // Now and then a message comes twice, as after a seek.
            let at = *position;
            let from = if self.again { (at - 1).max(data.low) } else { at };
            for (offset, number) in data.messages.range(from..) {
                if left == 0 {
                    break;
                }
                left -= usize::from(*offset >= at);
                let payload = if number % 10 == 3 { format!("bad {number}") } else { format!("{{\"n\":{number}}}") };
                let message = Message {
                    partition: *partition,
                    offset: *offset,
                    timestamp: Some(0),
                    key: None,
                    payload: Some(payload.as_bytes()),
                };
                *position = offset + 1;
                if !sink(Event::Message(message)) {
                    return Ok(());
                }
            }
            if left > 0 && data.messages.range(*position..).next().is_none() {
                *position = data.end.max(*position);
                sink(Event::End { partition: *partition, offset: *position });
            }
        }
        if left == self.pace && !wait.is_zero() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn bounds(&mut self, partition: i32, _: Duration) -> Result<(i64, i64)> {
        let topic = self.topic.lock().unwrap();
        let data = &topic.partitions[partition as usize];
        Ok((data.low, data.end))
    }

    fn known_end(&self, partition: i32) -> Option<i64> {
        Some(self.topic.lock().unwrap().partitions[partition as usize].end)
    }

    fn describer(&self) -> Box<dyn Describe> {
        Box::new(FakeDescribe(self.topic.clone()))
    }
}

/// What survives crashes.
#[derive(Default)]
struct Catalog {
    offsets: Checkpoint,
    topic_id: Option<[u8; 16]>,
    numbers: Vec<u64>,
    dead: Vec<String>,
}

impl Publisher for Catalog {
    type Error = ();

    fn publish(&mut self, batch: &Prepared) -> Result<Outcome, ()> {
        for (partition, range) in batch.delta.iter() {
            let new = batch.new_partitions.contains(&partition);
            let expected = if new { None } else { Some(range.first) };
            if self.offsets.next_offset(partition) != expected {
                return Ok(Outcome::Conflict);
            }
        }
        self.offsets.apply(&batch.delta).map_err(drop)?;
        self.topic_id = self.topic_id.or(batch.topic_id);
        for built in &batch.segments {
            assert_eq!(built.checksum, crc32c::crc32c(&built.bytes));
            let segment = Segment::open(SegmentBytes::Memory(built.bytes.clone().into())).unwrap();
            let column = segment.column(ColumnId(1)).unwrap();
            for block in 0..segment.blocks() {
                let mut values = Vec::new();
                column.decode_i64(block, &mut values).unwrap();
                self.numbers.extend(values.iter().map(|v| *v as u64));
            }
        }
        self.dead.extend(batch.dead.iter().map(|d| String::from_utf8(d.payload.clone().unwrap()).unwrap()));
        Ok(Outcome::Committed)
    }
}

fn schema() -> Arc<Schema> {
    let columns = vec![Column { id: ColumnId(1), ty: LogicalType::Int8, indexed: true }];
    Arc::new(Schema { columns, time: None, cluster_by: Vec::new() })
}

fn fields() -> Vec<Field> {
    let parse = Parse::of(LogicalType::Int8);
    vec![Field { name: "n".into(), type_name: "bigint".into(), parse, not_null: true, default: Value::Null }]
}

/// A worker between two crashes.
struct Worker {
    fetcher: Fetcher,
    builder: Builder,
    describe: Box<dyn Describe>,
}

const LIMITS: Limits = Limits { rows: 40, bytes: 1 << 20, dead: 20 };

impl Worker {
    fn start(topic: &SharedTopic, catalog: &Catalog, pace: usize, again: bool) -> Self {
        let source = FakeSource { topic: topic.clone(), positions: BTreeMap::new(), pace, again };
        let describe = source.describer();
        let fetcher = Fetcher::new(Box::new(source), schema(), fields(), LIMITS, Duration::ZERO, &catalog.offsets);
        let builder = Builder {
            schema: schema(),
            topic: "t".into(),
            topic_id: catalog.topic_id,
            memory: 64 << 20,
            spill_directory: None,
            cancel: Cancel::new(),
        };
        Worker { fetcher, builder, describe }
    }

    /// One batch, unless there is nothing.
    fn batch(&mut self) -> Result<Option<Prepared>> {
        let description = self.builder.confirm(self.describe.as_mut(), Duration::ZERO)?;
        self.fetcher.assign(description.partitions)?;
        self.fetcher.poll(Duration::ZERO)?;
        let Some(decoded) = self.fetcher.seal(Instant::now()) else { return Ok(None) };
        let mut prepared = self.builder.build(decoded)?;
        self.builder.confirm(self.describe.as_mut(), Duration::ZERO)?;
        prepared.topic_id = self.builder.topic_id;
        Ok(Some(prepared))
    }
}

fn check(catalog: &Catalog, topic: &Topic) {
    let sent: BTreeSet<u64> = topic.partitions.iter().flat_map(|p| p.messages.values().copied()).collect();
    let mut rows = catalog.numbers.clone();
    rows.sort_unstable();
    assert_eq!(rows, sent.iter().copied().filter(|n| n % 10 != 3).collect::<Vec<_>>());
    let mut dead = catalog.dead.clone();
    dead.sort_unstable();
    let mut bad: Vec<String> = sent.iter().filter(|n| *n % 10 == 3).map(|n| format!("bad {n}")).collect();
    bad.sort_unstable();
    assert_eq!(dead, bad);
    for (partition, data) in topic.partitions.iter().enumerate() {
        let next = catalog.offsets.next_offset(partition as i32);
        assert!(next == Some(data.end) || (next.is_none() && data.end == 0), "{next:?} {}", data.end);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends so many messages and then a gap of so many offsets.
    Produce {
        partition: usize,
        count: u64,
        gap: i64,
    },
    Publish,
    /// The worker dies with a batch in hand.
    CrashBefore,
    /// The worker dies after the commit, before it knows.
    CrashAfter,
    /// A second worker publishes first: the one at hand gets a conflict and starts anew.
    Race,
    AddPartition,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 0..60u64, 0..4i64).prop_map(|(partition, count, gap)| Step::Produce { partition, count, gap }),
        4 => Just(Step::Publish),
        1 => Just(Step::CrashBefore),
        1 => Just(Step::CrashAfter),
        1 => Just(Step::Race),
        1 => Just(Step::AddPartition),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_message_once(steps in prop::collection::vec(step(), 1..60), pace in 1..70usize, again in any::<bool>()) {
        let topic = SharedTopic::new(Mutex::new(Topic { id: [1; 16], partitions: vec![Partition::default()] }));
        let mut catalog = Catalog::default();
        let mut worker = Worker::start(&topic, &catalog, pace, again);
        let mut number = 0;
        for step in steps {
            match step {
                Step::Produce { partition, count, gap } => {
                    let mut topic = topic.lock().unwrap();
                    let at = partition % topic.partitions.len();
                    let data = &mut topic.partitions[at];
                    for _ in 0..count {
                        data.messages.insert(data.end, number);
                        data.end += 1;
                        number += 1;
                    }
                    data.end += gap;
                }
                Step::AddPartition => {
                    let mut topic = topic.lock().unwrap();
                    if topic.partitions.len() < 4 {
                        topic.partitions.push(Partition::default());
                    }
                }
                Step::Publish => {
                    if let Some(batch) = worker.batch().unwrap() {
                        prop_assert_eq!(catalog.publish(&batch), Ok(Outcome::Committed));
                    }
                }
                Step::CrashBefore => {
                    worker.batch().unwrap();
                    worker = Worker::start(&topic, &catalog, pace, again);
                }
                Step::CrashAfter => {
                    if let Some(batch) = worker.batch().unwrap() {
                        prop_assert_eq!(catalog.publish(&batch), Ok(Outcome::Committed));
                    }
                    worker = Worker::start(&topic, &catalog, pace, again);
                }
                Step::Race => {
                    let mut other = Worker::start(&topic, &catalog, pace, again);
                    let (mine, theirs) = (worker.batch().unwrap(), other.batch().unwrap());
                    if let Some(batch) = theirs {
                        prop_assert_eq!(catalog.publish(&batch), Ok(Outcome::Committed));
                        if let Some(batch) = mine {
                            prop_assert_eq!(catalog.publish(&batch), Ok(Outcome::Conflict));
                        }
                    }
                    worker = Worker::start(&topic, &catalog, pace, again);
                }
            }
        }
        while let Some(batch) = worker.batch().unwrap() {
            prop_assert_eq!(catalog.publish(&batch), Ok(Outcome::Committed));
        }
        check(&catalog, &topic.lock().unwrap());
    }
}

fn filled(id: u8, counts: &[i64]) -> SharedTopic {
    let mut number = 0;
    let mut partition = |count: &i64| {
        let mut data = Partition { end: *count, ..Partition::default() };
        for offset in 0..*count {
            data.messages.insert(offset, number);
            number += 1;
        }
        data
    };
    let partitions = counts.iter().map(&mut partition).collect();
    SharedTopic::new(Mutex::new(Topic { id: [id; 16], partitions }))
}

#[test]
fn a_recreated_topic_stops_the_ingestion_even_between_fetch_and_publish() {
    let topic = filled(1, &[30]);
    let mut catalog = Catalog::default();
    let mut worker = Worker::start(&topic, &catalog, 10, false);
    let batch = worker.batch().unwrap().unwrap();
    catalog.publish(&batch).unwrap();
    // The topic's successor is longer: its offsets continue those of the old one.
    *topic.lock().unwrap() = Topic { id: [2; 16], partitions: filled(2, &[500]).lock().unwrap().partitions.clone() };
    assert!(matches!(worker.batch(), Err(Error::TopicRecreated { .. })));
    let mut restarted = Worker::start(&topic, &catalog, 10, false);
    let error = restarted.batch().unwrap_err();
    assert!(error.stops() && error.hint().unwrap().contains("reset_ingestion"));
}

#[test]
fn lost_messages_stop_the_ingestion() {
    let topic = filled(1, &[100]);
    let mut catalog = Catalog::default();
    let mut worker = Worker::start(&topic, &catalog, 20, false);
    catalog.publish(&worker.batch().unwrap().unwrap()).unwrap();
    topic.lock().unwrap().partitions[0].low = 50;
    let error = worker.batch().unwrap_err();
    assert!(matches!(error, Error::OffsetOutOfRange { partition: 0, offset: 20, low: 50, high: 100 }), "{error}");
    assert!(error.stops());
}

/// The threads: nothing is lost or doubled between them, and what is held in memory has a bound.
#[test]
fn a_runner_publishes_everything_once() {
    let topic = filled(1, &[5000, 3000, 1]);
    let mut catalog = Catalog::default();
    for run in 0..3 {
        let spec = Spec {
            topic: "t".into(),
            topic_id: catalog.topic_id,
            schema: schema(),
            fields: fields(),
            checkpoint: catalog.offsets.clone(),
            publish_interval: Duration::from_millis(1),
            limits: LIMITS,
            build_memory: 64 << 20,
            spill_directory: None,
        };
        let given = topic.clone();
        let connect = move || {
            let source = FakeSource { topic: given, positions: BTreeMap::new(), pace: 1000, again: false };
            Ok(Box::new(source) as Box<dyn Source>)
        };
        let runner = Runner::start(spec, connect, Box::new(|| ())).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let mut batches = 0;
        // The first runs end in the middle, with batches under way.
        while (run == 2 || batches < 50) && catalog.offsets.iter().map(|(_, next)| next).sum::<i64>() < 8001 {
            assert!(Instant::now() < until, "{:?}", runner.status());
            match runner.next() {
                Some(Output::Batch(batch)) => {
                    assert!(batch.rows <= 40 && !batch.delta.is_empty());
                    assert_eq!(catalog.publish(&batch), Ok(Outcome::Committed));
                    batches += 1;
                }
                Some(Output::Failed(error)) => panic!("{error}"),
                Some(Output::Convert(_)) => panic!("nothing is to be converted"),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        assert!(runner.stop(Duration::from_secs(5)));
    }
    check(&catalog, &topic.lock().unwrap());
}

#[test]
fn a_panicking_source_is_an_error() {
    let topic = filled(1, &[10]);
    let spec = Spec {
        topic: "t".into(),
        topic_id: None,
        schema: schema(),
        fields: fields(),
        checkpoint: Checkpoint::default(),
        publish_interval: Duration::from_millis(1),
        limits: LIMITS,
        build_memory: 64 << 20,
        spill_directory: None,
    };
    let connect = move || -> Result<Box<dyn Source>> {
        let _held = topic;
        panic!("out of order")
    };
    let runner = Runner::start(spec, connect, Box::new(|| ())).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match runner.next() {
            Some(Output::Failed(Error::Panic(message))) => {
                assert_eq!(message, "out of order");
                break;
            }
            Some(_) => panic!("something else"),
            None => assert!(Instant::now() < until),
        }
    }
    assert!(runner.stop(Duration::from_secs(5)));
}
