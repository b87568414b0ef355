//! Lint, format and breaking changes, by buf. Where buf is not installed the tests say so; in CI that is a failure.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn proto() -> PathBuf {
    workspace().join("proto")
}

/// buf, or none where it is not installed and nobody insists.
fn buf() -> Option<PathBuf> {
    let local = env::var_os("TRUEUP_LOCAL").map_or_else(|| workspace().join(".local"), PathBuf::from);
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let found =
        std::iter::once(local.join("tools/bin")).chain(on_path).map(|folder| folder.join("buf")).find(|file| file.is_file());
    assert!(found.is_some() || env::var_os("CI").is_none(), "buf is not installed: run `make tools`");
    if found.is_none() {
        eprintln!("buf is not installed, so proto/ is not checked: run `make tools`");
    }
    found
}

fn run(buf: &Path, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(buf).current_dir(folder).args(arguments).output().unwrap()
}

fn passes(buf: &Path, folder: &Path, arguments: &[&str]) {
    let output = run(buf, folder, arguments);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "buf {}: {said}", arguments.join(" "));
}

#[test]
fn lint_and_format() {
    let Some(buf) = buf() else { return };
    passes(&buf, &proto(), &["lint"]);
    passes(&buf, &proto(), &["format", "-d", "--exit-code"]);
}

#[test]
fn nothing_breaks_the_committed_baseline() {
    let Some(buf) = buf() else { return };
    passes(&buf, &proto(), &["breaking", "--against", "baseline.binpb"]);
}

/// A check that passes whatever happens is worth nothing: each of these changes must be found.
#[test]
fn a_breaking_change_is_found() {
    let Some(buf) = buf() else { return };
    let changes = [
        ("coupon/v1/commands.proto", "string user_id = 2;", "string member_id = 2;"),
        ("coupon/v1/commands.proto", "string request_id = 3;", "int64 request_id = 3;"),
        ("coupon/v1/commands.proto", "bool admitted = 4;", "bool admitted = 14;"),
        ("coupon/v1/outcomes.proto", "REJECTION_REASON_SOLD_OUT = 1;", "REJECTION_REASON_SOLD_OUT = 21;"),
        ("coupon/v1/outcomes.proto", "message CouponIssued {", "message CouponGiven {"),
        ("order/v1/orders.proto", "int64 amount = 2;", "int32 amount = 2;"),
        ("payment/v1/outcomes.proto", "string refund_id = 3;", "string reversal_id = 3;"),
    ];
    for (file, from, to) in changes {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&proto(), copy.path());
        let path = copy.path().join("trueup").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let output = run(&buf, copy.path(), &["breaking", "--against", "baseline.binpb"]);
        assert_eq!(output.status.code(), Some(100), "{to}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
