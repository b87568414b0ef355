//! The end of a command whose output nobody reads any more, as in `trueup orders stale | head`.

use std::panic;

/// What a shell says of a command that ended by SIGPIPE: 128 and the signal's number.
pub const EXIT_CODE: i32 = 141;

/// What the standard library panics with where a line cannot be printed.
const PANIC: &str = "failed printing to stdout: Broken pipe";

/// Lets the process end without a word, as other commands do, instead of by a panic with its trace. Rust's programs ignore SIGPIPE, and to put its
/// default back takes unsafe code. Other panics are told as before.
pub fn end_quietly() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with(PANIC)) {
            std::process::exit(EXIT_CODE);
        }
        otherwise(panic);
    }));
}
