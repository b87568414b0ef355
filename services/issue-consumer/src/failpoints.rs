//! The steps at which a fault drill stops, slows, kills or fails this service; see docs/failpoints.md.

use service_kit::failpoint::Step;

/// Every step of the consumer.
pub const STEPS: &[Step] = &[
    Step::new("consumer.transaction.before", "a slice of a batch is read; no transaction is open"),
    Step::new("consumer.position.moved", "the transaction has moved the position and nothing else")
        .or_fail("the transaction fails and is rolled back"),
    Step::new("consumer.commit.before", "everything is written; COMMIT is not sent")
        .or_fail("the transaction fails and is rolled back"),
    Step::new("consumer.commit.done", "COMMIT is done; nobody has been told, no offset is committed")
        .or_fail("the answer to COMMIT is lost"),
    Step::new("consumer.offsets.before", "batches are committed in the database; their offsets are not committed in Kafka"),
    Step::new(
        "consumer.forward.acknowledged",
        "a record is in its home partition's log; the position has not moved past its first landing",
    ),
    Step::new("consumer.dead_letter.acknowledged", "a dead letter is acknowledged; the batch is not committed"),
    Step::new("consumer.publish.before", "outcomes are committed; none is announced")
        .or_fail("announcing fails before anything is sent"),
    Step::new("consumer.publish.acknowledged", "outcomes are announced; the publisher's cursor has not moved")
        .or_fail("the acknowledgements are lost: all of it is announced again"),
    Step::new("consumer.settle.before", "before a settle call to a gate").or_fail("the call fails before it reaches the gate"),
    Step::new("consumer.settle.replied", "the gate has settled; the settler has not noted it")
        .or_fail("the gate's answer is lost"),
];
