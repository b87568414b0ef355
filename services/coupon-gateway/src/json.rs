//! Small JSON answers, written by hand into one buffer: the hot path writes one for each request.

/// A JSON object in the making.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An empty object; `capacity_bytes` is how long it will probably get.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let mut text = String::with_capacity(capacity_bytes);
        text.push('{');
        Self(text)
    }

    /// `name` must not need escaping.
    fn name(&mut self, name: &str) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        &mut self.0
    }

    /// A text of which every character may stand in JSON as it is: a UUID, a time, a ticket, a name of ours.
    #[must_use]
    pub fn plain(mut self, name: &str, value: &str) -> Self {
        let text = self.name(name);
        text.push('"');
        text.push_str(value);
        text.push('"');
        self
    }

    /// Two plain texts, one behind the other.
    #[must_use]
    pub fn joined(mut self, name: &str, first: &str, second: &str) -> Self {
        let text = self.name(name);
        text.push('"');
        text.push_str(first);
        text.push_str(second);
        text.push('"');
        self
    }

    /// Any text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        escape(self.name(name), value);
        self
    }

    /// A number.
    #[must_use]
    pub fn number(mut self, name: &str, value: i64) -> Self {
        let text = self.name(name);
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = value.unsigned_abs();
        loop {
            at = at.saturating_sub(1);
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            text.push('-');
        }
        text.extend(digits.get(at..).unwrap_or_default().iter().map(|digit| char::from(*digit)));
        self
    }

    /// The object, closed.
    #[must_use]
    pub fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Writes a JSON string. Ids have no control characters, but names may.
fn escape(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn it_is_json_whatever_the_texts_are() {
        let odd = "a\"b\\c\u{1}\n한\u{10348}";
        let text = Object::new(8).plain("id", "x-1").text("odd", odd).joined("url", "/v1/", "x").number("n", 0).close();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["id"].as_str(), value["odd"].as_str(), value["url"].as_str()), (Some("x-1"), Some(odd), Some("/v1/x")));
        assert_eq!(Object::new(0).close(), "{}");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, -1, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            assert_eq!(Object::new(0).number("n", number).close(), format!("{{\"n\":{number}}}"));
        }
    }
}
