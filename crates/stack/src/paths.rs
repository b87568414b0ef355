//! Where things of this checkout lie.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folder with the workspace's `Cargo.toml`: the nearest one above the current folder, else the one this crate was built in.
///
/// # Errors
/// Neither is there.
pub fn workspace() -> Result<PathBuf> {
    let here = env::current_dir()?;
    let above = here.ancestors().find(|folder| folder.join("Cargo.toml").is_file() && folder.join("migrations").is_dir());
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    above.or(built).map(Path::to_path_buf).context("not inside a checkout: change to its folder")
}

/// The git-ignored folder for data, logs and tools: `TRUEUP_LOCAL`, else `.local` in the workspace.
///
/// # Errors
/// It cannot be made.
pub fn local() -> Result<PathBuf> {
    let folder = match env::var_os("TRUEUP_LOCAL") {
        Some(folder) => PathBuf::from(folder),
        None => workspace()?.join(".local"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The folder of Kafka's jars.
///
/// # Errors
/// They have not been fetched.
pub fn kafka_libs() -> Result<PathBuf> {
    let libs = local()?.join("kafka/libs");
    anyhow::ensure!(libs.join("kafka_2.13-4.1.0.jar").is_file(), "Kafka's jars are not in {}: run `make tools`", libs.display());
    Ok(libs)
}

/// The folder with the binaries that cargo builds in `profile` (`debug` or `release`).
///
/// # Errors
/// The workspace cannot be found.
pub fn binaries(profile: &str) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    Ok(match target {
        Some(target) => target,
        None => workspace()?.join("target"),
    }
    .join(profile))
}

/// PostgreSQL's programs: Debian keeps them by version, elsewhere they are on the PATH.
///
/// # Errors
/// None is found.
pub fn postgres_programs() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .chain(on_path)
        .find(|folder| folder.join("initdb").is_file())
        .context("PostgreSQL's `initdb` is not here: run `make tools`, or install the Debian package `postgresql`")
}
