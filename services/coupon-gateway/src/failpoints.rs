//! The steps at which a fault drill stops, slows, kills or fails this service; see docs/failpoints.md.

use service_kit::failpoint::Step;

/// Every step of the gateway.
pub const STEPS: &[Step] = &[
    Step::new("gateway.gate.replied", "the gate's script has answered a batch; no request has been told")
        .or_fail("the answer is lost: the script ran, and the gateway takes the gate for down"),
    Step::new("gateway.append.before", "before a record is given to the producer; a reservation may exist")
        .or_fail("the record is refused before it could reach a broker"),
    Step::new("gateway.append.acknowledged", "the append is acknowledged; the client has no answer")
        .or_fail("the append is reported as unknown, though the record is in the log"),
    Step::new("gateway.release.before", "before a reservation is taken back whose append was refused"),
];
