//! Kinds of failures: what an error calls for, whichever server it came from.

/// The kind of an error; it picks the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It may pass, as when a server is away: try again with back-off.
    Transient,
    /// Too much at once, there or here: try again later, with less.
    Saturation,
    /// This record, row or call can never work: trying again changes nothing.
    Data,
    /// Nothing will work until somebody acts: settings, schema or code are wrong.
    Fatal,
}
