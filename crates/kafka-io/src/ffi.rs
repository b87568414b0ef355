//! The few calls of librdkafka that the safe wrapper does not offer. All `unsafe` of this crate is here.
#![allow(unsafe_code, reason = "each block says why it is sound")]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    ptr,
    sync::Arc,
};

use rdkafka::{
    bindings as rd,
    bindings::{rd_kafka_msg_status_t, rd_kafka_resp_err_t, rd_kafka_vtype_t as vtype},
    message::BorrowedMessage,
    types::{RDKafka, RDKafkaErrorCode},
};

/// Whether a message that was reported may be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It never reached a broker.
    No,
    /// It was sent and the answer is missing.
    Possibly,
    /// The broker acknowledged it.
    Yes,
}

/// What the client knows about a message in its delivery report.
pub(crate) fn persistence(message: &BorrowedMessage<'_>) -> Persistence {
    // SAFETY: the pointer comes from a live delivery report, which `message` keeps alive; the call only reads.
    match unsafe { rd::rd_kafka_message_status(message.ptr()) } {
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persistence::No,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persistence::Possibly,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persistence::Yes,
    }
}

/// Hands each header of a message to `take`. The safe iterator panics on a name that is no UTF-8, which any producer can
/// write; here names are bytes.
pub(crate) fn for_each_header(message: &BorrowedMessage<'_>, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive; the headers that come back belong to it and live as long.
    let found = unsafe { rd::rd_kafka_message_headers(message.ptr(), &mut headers) };
    if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0_usize);
        // SAFETY: `headers` is alive and all three out-pointers are valid; past the end the call fails and sets none.
        let got = unsafe { rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
        if got != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return;
        }
        // SAFETY: the name is a C string and the value has `size` bytes, both owned by the message, which is borrowed
        // for the whole call.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name).to_bytes(), value)
        };
        take(name, value);
    }
}

/// Puts a record into the producer's queue; never blocks. `opaque` comes back with the delivery report.
///
/// # Errors
/// The code, and the opaque back: there will be no delivery report.
pub(crate) fn produce<T: Send + Sync>(
    client: *mut RDKafka,
    topic: &CStr,
    partition: i32,
    record: &contracts::Encoded,
    opaque: Arc<T>,
) -> Result<(), (RDKafkaErrorCode, Arc<T>)> {
    fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
        bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
    }
    let (value, value_size) = parts(record.value());
    let (key, key_size) = parts(record.key());
    // SAFETY: a new list, owned here until the queue takes it.
    let headers = unsafe { rd::rd_kafka_headers_new(record.headers().len()) };
    for (name, value) in record.headers() {
        let (value, size) = parts(value);
        // SAFETY: the call copies name and value; both are valid for the lengths given.
        unsafe {
            rd::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                isize::try_from(name.len()).unwrap_or(0),
                value,
                isize::try_from(size).unwrap_or(0),
            )
        };
    }
    let opaque = Arc::into_raw(opaque).cast_mut().cast::<c_void>();
    // SAFETY: the argument list follows librdkafka's tags and ends with END; key and value are copied (F_COPY), so they
    // need to live for this call only. On success the queue owns `headers` and the opaque.
    let code = unsafe {
        rd::rd_kafka_producev(
            client,
            vtype::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_PARTITION,
            partition,
            vtype::RD_KAFKA_VTYPE_MSGFLAGS,
            rd::RD_KAFKA_MSG_F_COPY,
            vtype::RD_KAFKA_VTYPE_VALUE,
            value,
            value_size,
            vtype::RD_KAFKA_VTYPE_KEY,
            key.cast_const(),
            key_size,
            vtype::RD_KAFKA_VTYPE_OPAQUE,
            opaque,
            vtype::RD_KAFKA_VTYPE_HEADERS,
            headers,
            vtype::RD_KAFKA_VTYPE_END,
        )
    };
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: after a failure both still belong to the caller; the Arc was made by `into_raw` above.
    let opaque = unsafe {
        rd::rd_kafka_headers_destroy(headers);
        Arc::from_raw(opaque.cast_const().cast::<T>())
    };
    Err((code.into(), opaque))
}

/// The cluster's id, if a broker tells it within `timeout_ms`.
pub(crate) fn cluster_id(client: *mut RDKafka, timeout_ms: i32) -> Option<String> {
    // SAFETY: the client outlives the call; what comes back is a C string of ours, freed by the client's own function.
    unsafe {
        let id = rd::rd_kafka_clusterid(client, timeout_ms);
        if id.is_null() {
            return None;
        }
        let text = CStr::from_ptr(id).to_string_lossy().into_owned();
        rd::rd_kafka_mem_free(client, id.cast());
        Some(text)
    }
}

/// Frees a librdkafka object when it goes out of scope.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the matching constructor and is freed once.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// The topic's id, which changes when a topic is deleted and made again. Blocks for at most `timeout_ms`.
///
/// # Errors
/// The broker's or the client's code.
pub(crate) fn topic_id(client: *mut RDKafka, topic: &str, timeout_ms: i32) -> Result<String, RDKafkaErrorCode> {
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut names = [topic.as_ptr()];
    // SAFETY: every object is made here, checked for null before it is read, and freed by its `Owned` after the last read
    // of what points into it (locals drop in reverse order). The names are copied by the collection.
    unsafe {
        let topics = Owned(
            rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            rd::rd_kafka_TopicCollection_destroy,
        );
        let options = Owned(
            rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd::rd_kafka_AdminOptions_destroy,
        );
        let set = rd::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout_ms, ptr::null_mut(), 0);
        if set != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(set.into());
        }
        let queue = Owned(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy);
        rd::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        // The request has a time-out of its own and always answers; the wait here is only a little longer.
        let event = Owned(rd::rd_kafka_queue_poll(queue.0, timeout_ms.saturating_add(1_000)), rd::rd_kafka_event_destroy);
        if event.0.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let code = rd::rd_kafka_event_error(event.0);
        if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let mut count = 0_usize;
        let result = rd::rd_kafka_event_DescribeTopics_result(event.0);
        let descriptions =
            if result.is_null() { ptr::null_mut() } else { rd::rd_kafka_DescribeTopics_result_topics(result, &mut count) };
        if descriptions.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let description = *descriptions;
        let error = rd::rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            let code = rd::rd_kafka_error_code(error);
            if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(code.into());
            }
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(description);
        let text = if id.is_null() { ptr::null() } else { rd::rd_kafka_Uuid_base64str(id) };
        if text.is_null() {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
