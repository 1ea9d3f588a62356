//! The only code that calls librdkafka: its simple consumer (batches from one queue over all partitions)
//! and DescribeTopics, which the safe bindings lack and which alone tells a topic's id.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::time::Duration;

use rdkafka::bindings::*;

use crate::source::{Event, Message, TopicDescription};
use crate::{Error, Result};

/// Messages taken from the queue at a time.
const BATCH: usize = 4096;

fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Configuration("a value holds a NUL byte".into()))
}

/// # Safety
/// `text` is null or a NUL-terminated string that lives during the call.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn message_of(code: rd_kafka_resp_err_t) -> String {
    // SAFETY: returns a static string for every code.
    unsafe { owned(rd_kafka_err2str(code)) }
}

/// librdkafka would print to standard error, which is the server's log.
unsafe extern "C" fn discard_log(_: *const rd_kafka_t, _: c_int, _: *const c_char, _: *const c_char) {}

/// One client: its threads, connections and queue of fetched messages.
pub(super) struct Client {
    handle: *mut rd_kafka_t,
    topic: *mut rd_kafka_topic_t,
    topic_name: CString,
    /// All partitions' messages.
    queue: *mut rd_kafka_queue_t,
    /// Errors of the client as a whole.
    events: *mut rd_kafka_queue_t,
}

// SAFETY: librdkafka's handles may be used from any thread, several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Errors: `Configuration`.
    pub fn new(configuration: &[(String, String)], topic: &str) -> Result<Self> {
        let topic_name = c_string(topic)?;
        let mut reason = [0 as c_char; 512];
        // SAFETY: every pointer handed over is valid for its call; rd_kafka_new owns `conf` unless it fails.
        unsafe {
            let conf = rd_kafka_conf_new();
            for (name, value) in configuration {
                let (c_name, c_value) = match (c_string(name), c_string(value)) {
                    (Ok(n), Ok(v)) => (n, v),
                    (Err(e), _) | (_, Err(e)) => {
                        rd_kafka_conf_destroy(conf);
                        return Err(e);
                    }
                };
                let set = rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), reason.as_mut_ptr(), reason.len());
                if set != rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    rd_kafka_conf_destroy(conf);
                    // The library's reason repeats the value, which may be a secret.
                    return Err(Error::Configuration(format!("the Kafka client refuses the value of \"{name}\"")));
                }
            }
            rd_kafka_conf_set_log_cb(conf, Some(discard_log));
            rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR);
            let handle = rd_kafka_new(rd_kafka_type_t::RD_KAFKA_CONSUMER, conf, reason.as_mut_ptr(), reason.len());
            if handle.is_null() {
                rd_kafka_conf_destroy(conf);
                return Err(Error::Configuration(owned(reason.as_ptr())));
            }
            let topic = rd_kafka_topic_new(handle, topic_name.as_ptr(), null_mut());
            if topic.is_null() {
                let error = Error::Configuration(message_of(rd_kafka_last_error()));
                rd_kafka_destroy_flags(handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
                return Err(error);
            }
            let queue = rd_kafka_queue_new(handle);
            let events = rd_kafka_queue_get_main(handle);
            Ok(Client { handle, topic, topic_name, queue, events })
        }
    }

    /// Begins to fetch a partition at `offset`.
    pub fn start(&self, partition: i32, offset: i64) -> Result<()> {
        // SAFETY: topic and queue live as long as `self`.
        let failed = unsafe { rd_kafka_consume_start_queue(self.topic, partition, offset, self.queue) };
        if failed == 0 {
            return Ok(());
        }
        // SAFETY: takes nothing; the error of this thread's last call.
        Err(Error::Transient(message_of(unsafe { rd_kafka_last_error() })))
    }

    /// Stops fetching a partition and drops what is queued of it.
    pub fn stop(&self, partition: i32) {
        // SAFETY: topic lives as long as `self`; a partition that is not being fetched is an error code only.
        unsafe { rd_kafka_consume_stop(self.topic, partition) };
    }

    /// Hands over what arrives within `wait`, at most a batch a call. Returns how many events and errors there were, and
    /// whether `sink` wants more.
    pub fn poll(
        &self,
        wait: Duration,
        batch: &mut Batch,
        sink: &mut dyn FnMut(Event<'_>) -> bool,
        failed: &mut dyn FnMut(i32, i64, rd_kafka_resp_err_t),
    ) -> (usize, bool) {
        batch.clear();
        // SAFETY: `slots` has room for BATCH pointers; each one filled is owned by the batch, which destroys it.
        let count = unsafe {
            rd_kafka_consume_batch_queue(self.queue, milliseconds(wait), batch.slots.as_mut_ptr(), batch.slots.len())
        };
        batch.filled = usize::try_from(count).unwrap_or(0);
        let mut more = true;
        for slot in &batch.slots[..batch.filled] {
            // SAFETY: a filled slot is a valid message until destroyed; its key and payload live as long as it.
            let message = unsafe { &**slot };
            match message.err {
                rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    // SAFETY: as above.
                    let event = unsafe { borrow(message) };
                    more &= sink(Event::Message(event));
                }
                rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    sink(Event::End { partition: message.partition, offset: message.offset });
                }
                error => failed(message.partition, message.offset, error),
            }
        }
        let handed = batch.filled;
        batch.clear();
        (handed, more)
    }

    /// The newest error of the client as a whole since the last call, such as "all brokers are down".
    pub fn take_error(&self) -> Option<String> {
        let mut last = None;
        loop {
            // SAFETY: the queue lives as long as `self`; the event is destroyed once.
            unsafe {
                let event = rd_kafka_queue_poll(self.events, 0);
                if event.is_null() {
                    return last;
                }
                if rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR {
                    last = Some(owned(rd_kafka_event_error_string(event)));
                }
                rd_kafka_event_destroy(event);
            }
        }
    }

    /// First offset and the one after the last, from the broker.
    pub fn query_bounds(&self, partition: i32, timeout: Duration) -> Result<(i64, i64)> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: the out pointers are valid for the call.
        let code = unsafe {
            rd_kafka_query_watermark_offsets(
                self.handle,
                self.topic_name.as_ptr(),
                partition,
                &mut low,
                &mut high,
                milliseconds(timeout),
            )
        };
        check(code)?;
        Ok((low, high))
    }

    /// As of the last fetch, without asking.
    pub fn known_end(&self, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: the out pointers are valid for the call.
        let code = unsafe {
            rd_kafka_get_watermark_offsets(self.handle, self.topic_name.as_ptr(), partition, &mut low, &mut high)
        };
        (code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// For each partition the first offset at or after `timestamp` (milliseconds since 1970); `None`: there is none.
    pub fn offsets_at(&self, partitions: i32, timestamp: i64, timeout: Duration) -> Result<Vec<Option<i64>>> {
        // SAFETY: the list is ours until destroyed; `elems` has `cnt` entries.
        unsafe {
            let list = rd_kafka_topic_partition_list_new(partitions);
            for partition in 0..partitions {
                let entry = rd_kafka_topic_partition_list_add(list, self.topic_name.as_ptr(), partition);
                (*entry).offset = timestamp;
            }
            let code = rd_kafka_offsets_for_times(self.handle, list, milliseconds(timeout));
            let entries = std::slice::from_raw_parts((*list).elems, (*list).cnt as usize);
            let offsets = entries.iter().map(|e| check(e.err).map(|()| (e.offset >= 0).then_some(e.offset)));
            let result = check(code).and_then(|()| offsets.collect());
            rd_kafka_topic_partition_list_destroy(list);
            result
        }
    }

    /// Makes the client learn of partitions that were added.
    pub fn refresh_metadata(&self, timeout: Duration) {
        let mut metadata = std::ptr::null();
        // SAFETY: the out pointer is valid; what it returns is destroyed once.
        unsafe {
            rd_kafka_metadata(self.handle, 0, self.topic, &mut metadata, milliseconds(timeout));
            if !metadata.is_null() {
                rd_kafka_metadata_destroy(metadata);
            }
        }
    }

    /// Errors: `UnknownTopic`, `Transient`.
    pub fn describe(&self, timeout: Duration) -> Result<TopicDescription> {
        let mut names = [self.topic_name.as_ptr()];
        // SAFETY: each object is created, used and destroyed here; the result belongs to the event.
        unsafe {
            let answers = rd_kafka_queue_new(self.handle);
            let options = rd_kafka_AdminOptions_new(self.handle, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            let mut reason = [0 as c_char; 128];
            rd_kafka_AdminOptions_set_request_timeout(
                options,
                milliseconds(timeout),
                reason.as_mut_ptr(),
                reason.len(),
            );
            let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            rd_kafka_DescribeTopics(self.handle, topics, options, answers);
            // A little longer than the request's own limit, so that its own error is seen.
            let event = rd_kafka_queue_poll(answers, milliseconds(timeout + Duration::from_millis(500)));
            let result = self.read_description(event);
            if !event.is_null() {
                rd_kafka_event_destroy(event);
            }
            rd_kafka_TopicCollection_destroy(topics);
            rd_kafka_AdminOptions_destroy(options);
            rd_kafka_queue_destroy(answers);
            result
        }
    }

    /// # Safety
    /// `event` is null or a live event.
    unsafe fn read_description(&self, event: *mut rd_kafka_event_t) -> Result<TopicDescription> {
        if event.is_null() {
            return Err(Error::Transient("the broker did not answer in time".into()));
        }
        // SAFETY: accessors of a live event; what they return lives as long as it.
        unsafe {
            check(rd_kafka_event_error(event))?;
            let answer = rd_kafka_event_DescribeTopics_result(event);
            let mut count = 0;
            let topics =
                if answer.is_null() { null_mut() } else { rd_kafka_DescribeTopics_result_topics(answer, &mut count) };
            if topics.is_null() || count != 1 {
                return Err(Error::Transient("the broker's answer names no topic".into()));
            }
            let topic = *topics;
            let error = rd_kafka_TopicDescription_error(topic);
            if !error.is_null() {
                match rd_kafka_error_code(error) {
                    rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                    code => return Err(self.unavailable(code)),
                }
            }
            let mut partitions = 0;
            rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let id = rd_kafka_TopicDescription_topic_id(topic);
            let mut bytes = [0; 16];
            if !id.is_null() {
                bytes[..8].copy_from_slice(&rd_kafka_Uuid_most_significant_bits(id).to_be_bytes());
                bytes[8..].copy_from_slice(&rd_kafka_Uuid_least_significant_bits(id).to_be_bytes());
            }
            Ok(TopicDescription {
                id: (bytes != [0; 16]).then_some(bytes),
                partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            })
        }
    }

    pub fn unavailable(&self, code: rd_kafka_resp_err_t) -> Error {
        use rd_kafka_resp_err_t::*;
        match code {
            RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                Error::UnknownTopic { topic: self.topic_name.to_string_lossy().into_owned(), reason: message_of(code) }
            }
            _ => Error::Transient(message_of(code)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: nobody else holds the handles any more; queues and topics go before their client.
        unsafe {
            rd_kafka_queue_destroy(self.queue);
            rd_kafka_queue_destroy(self.events);
            rd_kafka_topic_destroy(self.topic);
            rd_kafka_destroy_flags(self.handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

fn check(code: rd_kafka_resp_err_t) -> Result<()> {
    match code {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(Error::Transient(message_of(code))),
    }
}

/// # Safety
/// Key and payload of `message` are null or point to as many bytes as it says, for as long as it lives.
unsafe fn borrow(message: &rd_kafka_message_t) -> Message<'_> {
    let bytes = |start: *mut std::ffi::c_void, length: usize| {
        // SAFETY: the caller's promise.
        (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
    };
    let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: a live message and a valid out pointer.
    let timestamp = unsafe { rd_kafka_message_timestamp(message, &mut kind) };
    Message {
        partition: message.partition,
        offset: message.offset,
        timestamp: (timestamp >= 0).then_some(timestamp),
        key: bytes(message.key, message.key_len),
        payload: bytes(message.payload, message.len),
    }
}

/// Room for one batch of messages.
pub(super) struct Batch {
    slots: Vec<*mut rd_kafka_message_t>,
    filled: usize,
}

// SAFETY: messages may be read and destroyed on any thread.
unsafe impl Send for Batch {}

impl Batch {
    pub fn new() -> Self {
        Batch { slots: vec![null_mut(); BATCH], filled: 0 }
    }

    fn clear(&mut self) {
        for slot in self.slots[..self.filled].iter_mut() {
            // SAFETY: filled by the library, destroyed once.
            unsafe { rd_kafka_message_destroy(*slot) };
            *slot = null_mut();
        }
        self.filled = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}
