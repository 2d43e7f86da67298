//! Finds and reads the files of a configuration: one main file and `conf.d/*.toml` beside it.
//!
//! Invariants: no more than [`FILE_BYTES_MAX`] of a file and [`FILES_MAX`] files are read; only
//! plain files are opened, so that a pipe or a device can't hold the reader up; a file that can't
//! be read hides no fault of another.

use crate::diagnostic::Fault;
use crate::source::{Sources, Spot};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of one file. Ten thousand services of 400 bytes each fit.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files of one configuration.
pub const FILES_MAX: usize = 1_000;

/// Bytes of all files together; they are held in memory while they are checked.
pub const TOTAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Entries of `conf.d` that are looked at. A directory with more is not one of ours.
const ENTRIES_MAX: usize = 100_000;

/// What could be read, and what could not.
pub(crate) struct Files {
    pub(crate) sources: Sources,
    pub(crate) faults: Vec<Fault>,
    /// The main file and every file of `conf.d`, readable or not.
    pub(crate) paths: Vec<PathBuf>,
}

/// Reads the main file at `path` and the files of `conf.d` beside it, sorted by name.
pub(crate) fn read(path: &Path) -> Files {
    let mut faults = Vec::new();
    let mut paths = vec![path.to_path_buf()];
    paths.extend(parts(path, &mut faults));
    let mut sources = Sources::default();
    let mut total = 0;
    for (index, path) in paths.iter().enumerate() {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(why) => {
                faults.push(unreadable(path, index == 0, &why));
                continue;
            }
        };
        total += bytes.len();
        if TOTAL_BYTES_MAX < total {
            faults.push(
                Fault::error("too-large", "the configuration is too large as a whole")
                    .in_file(path)
                    .help(format!("all files together may have {TOTAL_BYTES_MAX} bytes")),
            );
            break;
        }
        faults.extend(add(&mut sources, path, bytes));
    }
    Files { sources, faults, paths }
}

/// The files of `conf.d`, sorted; hidden ones, editors' leftovers among them, are passed over.
fn parts(main: &Path, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let directory = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(
                Fault::error("unreadable", format!("can't list this directory: {}", plain(&error)))
                    .in_file(&directory)
                    .help("make it a directory that holdfast may read, or remove it"),
            );
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        match entry {
            Ok(entry) => {
                let path = entry.path();
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                    found.push(path);
                }
            }
            Err(error) => faults.push(
                Fault::error("unreadable", format!("can't list this directory: {}", plain(&error)))
                    .in_file(&directory),
            ),
        }
    }
    found.sort();
    if FILES_MAX <= found.len() {
        faults.push(
            Fault::error("too-many-files", format!("{} configuration files", found.len() + 1))
                .in_file(&directory)
                .help(format!("join some: at most {FILES_MAX} files are read")),
        );
        found.truncate(FILES_MAX - 1);
    }
    found
}

/// Why a file gave no bytes.
enum Unreadable {
    Io(io::Error),
    NoPlainFile,
    TooLarge,
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Unreadable> {
    // Opening a named pipe would wait for a writer: look before.
    if !std::fs::metadata(path).map_err(Unreadable::Io)?.is_file() {
        return Err(Unreadable::NoPlainFile);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Unreadable::Io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if FILE_BYTES_MAX < bytes.len() as u64 {
        return Err(Unreadable::TooLarge);
    }
    Ok(bytes)
}

fn unreadable(path: &Path, is_main: bool, why: &Unreadable) -> Fault {
    let fault = match why {
        Unreadable::Io(error) if error.kind() == io::ErrorKind::NotFound && is_main => {
            Fault::error("missing-file", "there is no configuration file").help(format!(
                "name one with --config, or begin with `holdfast config defaults > {}`",
                path.display()
            ))
        }
        Unreadable::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Fault::error("unreadable", "permission to read this file is denied")
                .help("run as the user that holdfast runs as, or let that user read the file")
        }
        Unreadable::Io(error) => {
            Fault::error("unreadable", format!("can't read this file: {}", plain(error)))
                .help("mend or remove the file")
        }
        Unreadable::NoPlainFile => Fault::error("unreadable", "this is not a plain file")
            .help("a configuration is a file; its parts are in `conf.d` beside it"),
        Unreadable::TooLarge => {
            Fault::error("too-large", "this file is too large for a configuration")
                .help(format!("at most {FILE_BYTES_MAX} bytes are read: split it into `conf.d`"))
        }
    };
    fault.in_file(path)
}

/// Adds a text. Where it is not UTF-8, that is reported, and the rest is checked all the same.
fn add(sources: &mut Sources, path: &Path, bytes: Vec<u8>) -> Option<Fault> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            sources.add(path.to_path_buf(), text);
            None
        }
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let file = sources.add(path.to_path_buf(), text);
            let end = good + '\u{FFFD}'.len_utf8();
            Some(
                Fault::error("not-utf-8", "this file is not UTF-8 text")
                    .at(Spot { file, start: good, end }, "not UTF-8 from here")
                    .help("save it as UTF-8, for example with `iconv -f latin1 -t utf-8`"),
            )
        }
    }
}

/// The message of the system without the error number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let cut = text.find(" (os error").unwrap_or(text.len());
    text[..cut].to_lowercase()
}
