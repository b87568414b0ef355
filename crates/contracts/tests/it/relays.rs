//! Records that are passed on keep every byte.

use contracts::{Cause, Encoded, dead_letter, forwarded, names, origin_of};
use domain::coupon::Place;

use crate::samples;

fn headers(record: &Encoded) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    record.headers().iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

#[test]
fn a_forwarded_record_is_the_record_and_where_it_came_from() {
    for (name, record) in samples::all() {
        let copy = forwarded(&record.at(2, 77, 0), None);
        assert_eq!((copy.key(), copy.value()), (record.key(), record.value()), "{name}");
        let (before, after) = (headers(&record), headers(&copy));
        assert_eq!(after[..before.len()], before[..], "{name}");
        assert_eq!(after[before.len()..], [(names::ORIGIN.as_bytes().to_vec(), Some(b"2@77".to_vec()))], "{name}");
    }
}

#[test]
fn a_dead_letter_says_why_and_where_and_keeps_the_rest() {
    let (_, record) = samples::all().swap_remove(0);
    let copy = dead_letter(&record.at(2, 77, 0), Cause::UnknownCoupon, "no such coupon\nhere");
    assert_eq!((copy.key(), copy.value()), (record.key(), record.value()));
    let before = headers(&record);
    assert_eq!(headers(&copy)[..before.len()], before[..]);
    let text = |name| copy.headers().text(name).map(str::to_owned);
    assert_eq!(text(names::CAUSE).as_deref(), Some("unknown_coupon"));
    assert_eq!(text(names::CAUSE_DETAIL).as_deref(), Some("no such coupon\u{FFFD}here"));
    assert_eq!((text(names::PLACE).as_deref(), text(names::ORIGIN).as_deref()), (Some("2@77"), Some("2@77")));

    // A dead letter that was sent back as it is and failed again says the newer cause, once.
    let again = dead_letter(&copy.at(2, 99, 0), Cause::BadId, "still");
    let causes = again.headers().iter().filter(|(name, _)| *name == names::CAUSE.as_bytes()).count();
    assert_eq!((causes, again.headers().text(names::CAUSE)), (1, Some("bad_id")));
    assert_eq!(again.headers().text(names::PLACE), Some("2@99"));
    assert_eq!(origin_of(&again.at(0, 0, 0)), Place { partition: 2, offset: 77 });
}

#[test]
fn an_origin_that_makes_no_sense_is_not_believed() {
    for text in ["", "x", "1@", "@1", "-1@5", "1@-5", "1@2@3", "99999999999@1"] {
        let mut record = Encoded::new(None, None, 1);
        record.push_text(names::ORIGIN, text);
        let raw = record.at(4, 5, 0);
        assert_eq!(origin_of(&raw), raw.place(), "{text}");
        let copy = forwarded(&raw, None);
        assert_eq!(copy.headers().text(names::ORIGIN), Some("4@5"), "{text}");
    }
}

#[test]
fn headers_without_value_and_names_without_text_survive() {
    let mut record = Encoded::new(None, Some(b"v"), 2);
    record.push_header(b"\xff", None);
    record.push_header(b"", Some(b""));
    let copy = forwarded(&record.at(0, 0, 0), None);
    assert_eq!(headers(&copy)[..2], [(b"\xff".to_vec(), None), (Vec::new(), Some(Vec::new()))]);
    assert_eq!(copy.key(), None);
}
