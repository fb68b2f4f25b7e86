//! The newest attempt this machine knows to be committed, in a file of its own: what tells a database that was put back to an earlier
//! time in place of itself, when nothing that ran then still runs.
//!
//! Read at the start, before anything is dialed; written with the renewal of the lease. **Invariant:** a file that cannot be written
//! stops nothing, and is said once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use uuid::Uuid;

/// A file that is not written within this is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The file, if there is one.
#[derive(Debug, Default)]
pub struct HighWater {
    path: Option<PathBuf>,
    written: Mutex<Option<Uuid>>,
    complained: AtomicBool,
}

impl HighWater {
    #[must_use]
    pub fn at(path: Option<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    /// What was written last; none: nothing yet.
    ///
    /// # Errors
    /// There is a file, and it holds no attempt's id, or cannot be read: better not to dial than not to know.
    pub fn read(&self) -> anyhow::Result<Option<Uuid>> {
        let Some(path) = &self.path else { return Ok(None) };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        let attempt = text.trim().parse().with_context(|| {
            format!(
                "{} holds no id of an attempt; remove it if you know that this database is the newest",
                path.display()
            )
        })?;
        Ok(Some(attempt))
    }

    /// Forgets what was written: this database is a new one.
    pub fn forget(&self) {
        if let Some(path) = &self.path {
            // Where it cannot be removed, a person is asked once more than needed.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes it down, if it is news: ids are ordered by their time. A disk that hangs keeps nobody waiting.
    pub async fn note(&self, attempt: Option<Uuid>) {
        let (Some(path), Some(attempt)) = (self.path.clone(), attempt) else { return };
        if self.is_written(attempt) {
            return;
        }
        let writing = tokio::task::spawn_blocking(move || write(&path, attempt));
        let done = match tokio::time::timeout(PATIENCE, writing).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(std::io::Error::other(panicked)),
            Err(late) => Err(late.into()),
        };
        match done {
            Ok(()) => *self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(attempt),
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, path = ?self.path, "cannot write down the newest attempt: an older database put back would not be recognised");
            }
            Err(_) => {}
        }
    }

    fn is_written(&self, attempt: Uuid) -> bool {
        let written = self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        written.is_some_and(|written| written >= attempt)
    }
}

/// Whole or not at all, whenever the process or the machine ends; never older than what is there.
fn write(path: &Path, attempt: Uuid) -> std::io::Result<()> {
    let there = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<Uuid>().ok());
    if there.is_some_and(|there| there >= attempt) {
        return Ok(());
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::File::create(&fresh)?;
    writeln!(file, "{attempt}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_read_back_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("high-water-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("newest-attempt");
        let attempt = Uuid::now_v7();
        assert_eq!(HighWater::at(Some(path.clone())).read().expect("none yet"), None);
        HighWater::at(Some(path.clone())).note(Some(attempt)).await;
        assert_eq!(HighWater::at(Some(path.clone())).read().expect("written"), Some(attempt));
        std::fs::write(&path, "half an i").expect("write");
        let error = HighWater::at(Some(path)).read().expect_err("no id").to_string();
        assert!(error.contains("holds no id"), "{error}");
        std::fs::remove_dir_all(&folder).expect("remove");
    }
}
