//! Looks at file systems, each of which may hang for ever: a network file system whose server is
//! gone.
//!
//! Invariant: a path that hangs has one thread in it, not one for each question.

use base::Answer;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;
use sys::sample::DiskSample;

/// A look at a file system that takes longer has failed.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// The paths that are looked at.
#[derive(Debug, Default)]
pub(in crate::watch) struct Places(BTreeMap<PathBuf, Arc<Mutex<()>>>);

impl Places {
    /// How much of the file system is used that holds a path.
    pub(in crate::watch) fn disk(
        &mut self,
        path: &Path,
    ) -> impl Future<Output = Result<DiskSample, String>> + use<> {
        let shown = path.display().to_string();
        let looking = self.look(path, LOOK_MAX, sys::sample::disk);
        async move {
            match looking.await {
                Ok(Ok(sample)) => Ok(sample),
                Ok(Err(error)) => Err(format!("cannot look at {shown}: {error}")),
                Err(why) => Err(format!("cannot look at {shown}: {why}")),
            }
        }
    }

    /// Whether a file system is mounted exactly here, and answers.
    pub(in crate::watch) fn mount(
        &mut self,
        path: &Path,
        timeout: Duration,
    ) -> impl Future<Output = Answer> + use<> {
        let shown = path.display().to_string();
        let looking = self.look(path, timeout, |path| {
            let mounts = fs::read_to_string("/proc/self/mountinfo")?;
            if !is_mounted(&mounts, path) {
                return Ok(false);
            }
            sys::sample::disk(path).map(|_| true)
        });
        async move {
            match looking.await {
                Ok(Ok(true)) => Answer::Yes,
                Ok(Ok(false)) => Answer::No(format!("nothing is mounted at {shown}")),
                Ok(Err(error)) => Answer::No(format!("{shown} does not answer: {error}")),
                Err(why) => Answer::No(format!("{shown} does not answer: {why}")),
            }
        }
    }

    fn look<T: Send + 'static, L: FnOnce(&Path) -> T + Send + 'static>(
        &mut self,
        path: &Path,
        timeout: Duration,
        look: L,
    ) -> impl Future<Output = Result<T, String>> + use<T, L> {
        let busy = Arc::clone(self.0.entry(path.to_owned()).or_default());
        let path = path.to_owned();
        let work = move || match busy.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Ok(_held) => Some(look(&path)),
            Err(TryLockError::Poisoned(_)) => Some(look(&path)),
        };
        async move {
            let work = tokio::task::spawn_blocking(work);
            match tokio::time::timeout(timeout, work).await {
                Ok(Ok(Some(seen))) => Ok(seen),
                Ok(Ok(None)) => Err("an earlier look at it still hangs".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(super::no_answer(timeout)),
            }
        }
    }

    /// Forgets paths that nobody looks at any more.
    pub(in crate::watch) fn retain(&mut self, wanted: impl Fn(&Path) -> bool) {
        self.0.retain(|path, _| wanted(path));
    }
}

/// Mount points are written with octal escapes for space, tab, newline and backslash.
fn is_mounted(mountinfo: &str, path: &Path) -> bool {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    mountinfo.lines().any(|line| {
        let point = line.split(' ').nth(4).unwrap_or("");
        let point = pairs.iter().fold(point.to_owned(), |text, (from, to)| text.replace(from, to));
        Path::new(&point) == path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn h17_a_mount_is_there_or_is_not() {
        let line = "36 35 0:30 / /mnt/a\\040b rw - nfs server:/x rw";
        assert!(is_mounted(line, Path::new("/mnt/a b")));
        assert!(!is_mounted(line, Path::new("/mnt/a")));
        let mut places = Places::default();
        let (proc, none) = block_on(async {
            let wait = Duration::from_secs(30);
            let proc = places.mount(Path::new("/proc"), wait).await;
            (proc, places.mount(Path::new("/proc/self"), wait).await)
        });
        assert_eq!(proc, Answer::Yes);
        assert_eq!(none, Answer::No("nothing is mounted at /proc/self".into()));
    }

    #[test]
    fn a_path_that_hangs_has_one_thread_in_it() {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let mut places = Places::default();
        block_on(async {
            let path = Path::new("/hangs");
            let short = Duration::from_millis(20);
            let first = places.look(path, short, move |_| hang.recv().is_ok());
            let first = first.await;
            assert!(first.unwrap_err().contains("no answer within 20ms"));
            let second = places.look(path, Duration::from_secs(30), |_| true).await;
            assert_eq!(second, Err("an earlier look at it still hangs".to_owned()));
            drop(release);
        });
        assert!(block_on(places.disk(Path::new("/"))).is_ok());
        places.retain(|path| path == Path::new("/"));
        assert_eq!(places.0.len(), 1);
        let why = block_on(places.disk(Path::new("/no/such"))).unwrap_err();
        assert!(why.starts_with("cannot look at /no/such: "), "{why}");
    }
}
