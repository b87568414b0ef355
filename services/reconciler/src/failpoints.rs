//! The steps at which a fault drill stops, slows, kills or fails this service; see docs/failpoints.md.

use service_kit::failpoint::Step;

/// Every step of the reconciler.
pub const STEPS: &[Step] = &[
    Step::new("reconciler.pending.handed_out", "the gate has handed out old reservations; none is published again"),
    Step::new("reconciler.pending.published", "old reservations are published again; the lease is still held"),
    Step::new("reconciler.gate.shut", "a cold gate is shut under a token; the log's end is not read"),
    Step::new("reconciler.gate.end_read", "the log's end is read; the partition is not decided up to it"),
    Step::new("reconciler.gate.page_loaded", "a page of members is loaded into a shut gate"),
    Step::new("reconciler.gate.before_open", "a gate is loaded and still shut"),
    Step::new("reconciler.run.counted", "the ledger is counted; the gate is not read"),
    Step::new("reconciler.run.gate_read", "the gate is read; the ledger is not looked at again"),
    Step::new("reconciler.compare.judged", "members of the set are judged by a snapshot; none is noted or taken out"),
    Step::new("reconciler.compare.noted", "a mismatch has its row; the gate is not touched"),
    Step::new("reconciler.compare.repaired", "the gate is repaired; its row does not say so"),
];
