//! The migrations are embedded by a macro, which cargo does not see reading files.
fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
