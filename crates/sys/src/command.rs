//! From the first word of a command to the file that is executed.
//!
//! Why: execvp(3) would say only "not found" at the end; here each way to fail is told apart before
//! anything is started.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a command can't be executed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResolveError {
    /// An empty word.
    #[error("the command is empty (check `command`)")]
    Empty,
    /// Nothing there.
    #[error("cannot execute `{program}`: no such file in {searched} (check `command`{hint})")]
    NotFound {
        /// What was asked for.
        program: String,
        /// Where it was looked for.
        searched: String,
        /// What else could be wrong; may be empty.
        hint: &'static str,
    },
    /// A file without the right to execute it.
    #[error("cannot execute {}: the file is not executable (run `chmod +x {}`)", .0.display(), .0.display())]
    NotExecutable(PathBuf),
    /// A directory.
    #[error("cannot execute {}: it is a directory (check `command`)", .0.display())]
    IsDirectory(PathBuf),
    /// The file or the way to it can't be looked at.
    #[error("cannot execute {}: {why} (check `command`)", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
}

/// Finds the file. A word with a slash is taken from `directory`, any other one is searched for
/// in `path_env` (empty and relative entries of it count from `directory`).
pub fn resolve(program: &str, path_env: &str, directory: &Path) -> Result<PathBuf, ResolveError> {
    if program.is_empty() {
        return Err(ResolveError::Empty);
    }
    if program.contains('/') {
        return resolve_path(program, directory);
    }
    let mut refused = None;
    for entry in path_env.split(':') {
        let candidate = directory.join(OsStr::from_bytes(entry.as_bytes())).join(program);
        match judge(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(ResolveError::NotFound { .. }) => {}
            Err(other) => refused = refused.or(Some(other)),
        }
    }
    // A file that is there and can't be executed is the better explanation.
    Err(refused.unwrap_or_else(|| ResolveError::NotFound {
        program: program.to_owned(),
        searched: format!("PATH ({path_env})"),
        hint: " and PATH, or give the full path",
    }))
}

fn resolve_path(program: &str, directory: &Path) -> Result<PathBuf, ResolveError> {
    let candidate = directory.join(program);
    judge(&candidate).map(|()| candidate)
}

fn judge(path: &Path) -> Result<(), ResolveError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ResolveError::IsDirectory(path.to_owned())),
        Ok(found) if !is_executable(&found) => Err(ResolveError::NotExecutable(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Err(ResolveError::NotFound {
                program: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                searched: path.parent().unwrap_or(path).display().to_string(),
                hint: "",
            }),
            _ => Err(ResolveError::Unreachable { path: path.to_owned(), why: error.to_string() }),
        },
    }
}

/// Somebody may execute it. Whether the service's user may is for the kernel to say.
fn is_executable(found: &Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_way_to_fail_has_its_own_message() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("bin/sub")).unwrap();
        fs::write(root.join("bin/plain"), "x").unwrap();
        fs::write(root.join("bin/good"), "x").unwrap();
        fs::set_permissions(root.join("bin/good"), fs::Permissions::from_mode(0o755)).unwrap();

        let find = |word: &str| resolve(word, "/nonexistent:bin", root);
        assert_eq!(find("good"), Ok(root.join("bin/good")));
        assert_eq!(find("./bin/good"), Ok(root.join("./bin/good")));
        assert_eq!(find("plain"), Err(ResolveError::NotExecutable(root.join("bin/plain"))));
        assert_eq!(find("bin/sub"), Err(ResolveError::IsDirectory(root.join("bin/sub"))));
        assert_eq!(find(""), Err(ResolveError::Empty));
        let message = find("missing").unwrap_err().to_string();
        assert!(
            message.contains("`missing`: no such file in PATH (/nonexistent:bin)"),
            "{message}"
        );
        let message = find("/no/where/x").unwrap_err().to_string();
        assert!(message.contains("`x`: no such file in /no/where (check"), "{message}");
        assert_eq!(resolve("sh", "/bin", root), Ok("/bin/sh".into()));
    }
}
