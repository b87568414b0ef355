//! Folders for the servers of tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use stack::{paths, process::Identity};

static NEXT: AtomicU32 = AtomicU32::new(1);
static CLEAN: Once = Once::new();

/// A folder of this test binary. It goes when it is dropped, or when a later test binary finds that its process is gone.
#[derive(Debug)]
pub struct TestFolder(PathBuf);

impl TestFolder {
    /// Makes a new folder.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let root = paths::local().expect("the folder for local data").join("test");
        CLEAN.call_once(|| remove_left_over(&root));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{}-{number}-{name}", process::id()));
        fs::create_dir_all(&folder).expect("a folder for a test");
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // What stays is removed by the next test binary.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove_left_over(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| Identity::of(pid).is_none()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
