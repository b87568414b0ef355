//! What `make run` calls, from its start to its end, with few members: interrupted in the middle, whole, and with a verdict that is bad.

use std::time::Duration;

use rustix::process::Signal;
use stack::process::wait_until;

use crate::support::{Local, said};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A whole run with numbers that a slow machine does in seconds.
const WHOLE: [&str; 8] = ["run", "--once", "--members", "200", "--seats", "20", "--orders", "10"];

#[test]
fn ctrl_c_in_the_middle_leaves_nothing_and_the_next_run_is_whole_and_clean() {
    let local = Local::new();
    // So many members that the drill cannot be over before it is interrupted.
    let mut run = local.start(&["run", "--members", "2000000"]);
    let decided = || local.sql("SELECT count(*) FROM coupon_request").is_ok_and(|count| count != "0");
    let mut ended = None;
    let in_the_middle = wait_until(PATIENCE, || {
        ended = run.ended();
        ended.is_some() || local.said().contains("verdict") || decided()
    });
    assert!(in_the_middle && ended.is_none() && decided(), "{ended:?}: {}", local.said());
    let parts = local.status();
    assert_eq!(parts.len(), 10, "{parts:?}");
    assert!(local.left().iter().any(|(_, name)| name.trim() == "trueup"), "the drill runs: {:?}", local.left());

    // A terminal sends Ctrl-C to all of the group: to the run and to the drill that it started.
    run.signal(Signal::INT);
    assert!(wait_until(PATIENCE, || run.ended().is_some()), "it goes on: {}", local.said());
    assert_eq!(run.ended().and_then(|status| status.code()), Some(130), "{}", local.said());
    assert!(local.said().contains("interrupted before the verdict"), "{}", local.said());
    assert_eq!(local.left(), [], "a process is left");
    assert!(local.status().is_empty());
    assert!(local.wait_ports_free(), "a port is still held");

    let whole = local.command(&WHOLE);
    let output = String::from_utf8_lossy(&whole.stdout);
    assert_eq!(whole.status.code(), Some(0), "{output}{}", said(&whole));
    assert!(output.contains("\nverdict: clean\n"), "{output}");
    assert_eq!(output.matches(": CLEAN").count(), 2, "both coupons are audited: {output}");
    assert!(output.contains("money check: clean"), "{output}");
    for dialect in ["generic", "stripe", "toss"] {
        assert!(output.contains(&format!("  {dialect}: clean, ")), "the audit of each gateway's list: {output}");
    }
    assert_eq!(local.left(), [], "a process is left");
    assert!(local.wait_ports_free(), "a port is still held");
}

#[test]
fn a_verdict_that_is_not_clean_is_the_exit_status() {
    let local = Local::new();
    let up = local.command(&["up"]);
    assert!(up.status.success(), "{}", said(&up));
    // The ledger tells another story than the log: each row says that its request was not admitted by the gate, or that it was.
    let plant = "CREATE FUNCTION twist() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.admitted := NOT NEW.admitted; RETURN NEW; END $$;
                 CREATE TRIGGER twist BEFORE INSERT ON coupon_request FOR EACH ROW EXECUTE FUNCTION twist();";
    local.sql(plant).unwrap();
    let run = local.command(&WHOLE);
    let output = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{output}{}", said(&run));
    assert!(output.contains("\nverdict: NOT clean, see above\n"), "{output}");
    assert_eq!(output.matches("wrong_admitted").count(), 2, "both audits say what differs: {output}");
    assert_eq!(local.left(), [], "a process is left");
}
