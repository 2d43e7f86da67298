//! `tdb backup` and `tdb restore`: a second file with the same records.
//!
//! Why a backup is read again and compared before it gets its name: it is needed on the day when
//! everything else has failed, and the one that it replaces was good.
//! Invariants: a backup holds what the file held at one moment; a file that is damaged, a dump that is
//! broken and a copy that differs leave everything as it was.
//! Source: the TDB specification, sections 8.4 and 20.3.

use super::fresh::{Existing, Fresh};
use super::{Shape, Shared, chain, damaged, done, failure, plural};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::Output;
use crate::cli::text;
use clap::Args;
use serde_json::json;
use std::fs::{self, Metadata};
use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tdb::dump::{DumpError, Reader};
use tdb::{Database, Error, Fault, Options, Store};

pub(super) const BACKUP_EXAMPLE: &str = "\
Nobody can change the file while it is copied. The copy is read again, compared and
checked before it gets its name. It has no mutexes, also where the file has some.

Examples:
  holdfast tdb backup secrets.tdb /srv/backup/secrets.tdb
  holdfast tdb backup --replace secrets.tdb /srv/backup/secrets.tdb";

pub(super) const RESTORE_EXAMPLE: &str = "\
The file appears when all of the dump was read and found good. It is for its owner alone.

Examples:
  holdfast tdb restore registry.tdb --from registry.dump
  tdbdump old.tdb | holdfast tdb restore --hash-size 10007 new.tdb";

/// `holdfast tdb backup`.
#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    file: Shared,
    /// The copy
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Replace an earlier copy, once the new one is good
    #[arg(long)]
    replace: bool,
    /// Only read the file and lock nothing: for one that nobody changes, or on a read-only disk
    #[arg(long, conflicts_with = "wait")]
    unlocked: bool,
}

/// `holdfast tdb restore`.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The new file; it may not be there yet
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Read the dump from here, instead of from standard input
    #[arg(long, value_name = "DUMP")]
    from: Option<PathBuf>,
    #[command(flatten)]
    shape: Shape,
}

pub(super) fn backup(output: &Output, args: &BackupArgs) -> Result<Code, Failure> {
    let to = place_of(&args.file.path, args)?;
    let mut source = open_source(args)?;
    let metadata =
        fs::metadata(&args.file.path).map_err(|why| unreadable(&args.file.path, &why))?;
    let held = source.lock_all_shared().map_err(failure)?;
    if !held.check().map_err(failure)?.is_clean() {
        return Err(damaged(&args.file.path));
    }
    let fresh = Fresh::beside(&to).map_err(|why| unwritable(&to, &why))?;
    let records = copy(&held, &fresh)?;
    compare(&held, &fresh, records)?;
    drop(held);
    let existing = if args.replace { Existing::IsReplaced } else { Existing::Stays };
    let placed = fresh.resemble(&metadata).and_then(|()| fresh.put(existing));
    placed.map_err(|why| unwritable(&to, &why))?;
    if output.json {
        output.json(&json!({ "records": records }))?;
    } else {
        let to = text::clean(&args.to.display().to_string());
        done(output, &format!("{to} is a sound copy with {}", plural(records)))?;
    }
    Ok(Code::Done)
}

fn open_source(args: &BackupArgs) -> Result<Database, Failure> {
    if args.unlocked {
        return Database::open_read_only(&args.file.path).map_err(failure);
    }
    let options = Options::new().wait(args.file.wait);
    options.open(&args.file.path).map_err(|error| match error.fault() {
        Fault::Io { source, .. } if is_forbidden(source) => failure(error)
            .help("`--unlocked` copies a file that can only be read, and that nobody changes"),
        _ => failure(error),
    })
}

fn is_forbidden(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Where the copy belongs, if it may be written there.
fn place_of(file: &Path, args: &BackupArgs) -> Result<PathBuf, Failure> {
    // A link in the place stays a link, and the file that it leads to is replaced.
    let Ok(to) = fs::canonicalize(&args.to) else { return Ok(args.to.clone()) };
    let there = fs::metadata(&to).map_err(|why| unwritable(&to, &why))?;
    let shown = text::clean(&args.to.display().to_string());
    let is_same = |one: &Metadata| (one.dev(), one.ino()) == (there.dev(), there.ino());
    if fs::metadata(file).is_ok_and(|file| is_same(&file)) {
        return Err(Failure::usage(format!("{shown} is the file itself")).help("name another one"));
    }
    if !there.is_file() {
        return Err(Failure::usage(format!("{shown} is no file")).help("name a file"));
    }
    if !args.replace {
        let help = "`--replace` replaces it; whoever has it open would go on with the old one";
        return Err(Failure::no(format!("{shown} is there already")).help(help));
    }
    let is_none = |error: &Error| matches!(error.fault(), Fault::NotTdb { .. } | Fault::Io { .. });
    match Database::open_read_only(&to) {
        Err(error) if there.len() != 0 && is_none(&error) => {
            Err(Failure::no(chain(&error)).help("only a TDB file is replaced; name another one"))
        }
        // A damaged copy is worth replacing.
        _ => Ok(to),
    }
}

/// Copies all records; returns how many.
fn copy(source: &Database, fresh: &Fresh) -> Result<u64, Failure> {
    let header = source.header().map_err(failure)?;
    let options = Options::new().hash_size(header.hash_size).hash(header.hash).order(header.order);
    let mut copy = fresh.database(&options).map_err(not_written)?;
    let mut records = 0;
    let mut stored = Ok(());
    let read = source.traverse(|key, data| {
        match copy.store(key, data, Store::Insert) {
            Ok(()) => records += 1,
            // Its writer was killed before it could delete the older value, which comes later.
            Err(error) if matches!(error.fault(), Fault::Exists) => {}
            Err(error) => {
                stored = Err(not_written(error));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    read.map_err(failure)?;
    stored.map(|()| records)
}

/// Fails unless the copy is sound, has so many records, and each as the source has it.
fn compare(source: &Database, fresh: &Fresh, records: u64) -> Result<(), Failure> {
    let copy = fresh.read_again().map_err(failure)?;
    let mut same = Ok(true);
    let is_same = |key: &[u8], data: &[u8]| {
        source.fetch_with(key, |value| value == data).map(|same| same == Some(true))
    };
    let read = copy.traverse(|key, data| {
        same = is_same(key, data);
        if matches!(same, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let count = read.map_err(failure)?;
    if same.map_err(failure)? && count == records && is_sound(&copy, records)? {
        return Ok(());
    }
    Err(Failure::no("the copy is not what was written; nothing was replaced")
        .help("look after the disk, and the kernel's messages (`dmesg`)"))
}

fn is_sound(database: &Database, records: u64) -> Result<bool, Failure> {
    let report = database.check().map_err(failure)?;
    Ok(report.is_clean() && report.live == records)
}

pub(super) fn restore(output: &Output, args: &RestoreArgs) -> Result<Code, Failure> {
    let shown = text::clean(&args.path.display().to_string());
    if fs::symlink_metadata(&args.path).is_ok() {
        return Err(Failure::no(format!("{shown} is there already"))
            .help("name a file that is not there yet, or move this one away"));
    }
    let (from, input): (String, Box<dyn BufRead>) = match &args.from {
        None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
        Some(path) => {
            let file = fs::File::open(path).map_err(|why| unreadable(path, &why))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
    };
    let fresh = Fresh::beside(&args.path).map_err(|why| unwritable(&args.path, &why))?;
    let options = Options::new().hash_size(args.shape.chains()).hash(args.shape.hash());
    let mut database = fresh.database(&options).map_err(not_written)?;
    let records = fill(&mut database, input, &from)?;
    drop(database);
    if !is_sound(&fresh.read_again().map_err(failure)?, records)? {
        return Err(Failure::no("the file is not what was written; it was removed")
            .help("look after the disk, and the kernel's messages (`dmesg`)"));
    }
    fresh.put(Existing::Stays).map_err(|why| unwritable(&args.path, &why))?;
    if output.json {
        output.json(&json!({ "records": records }))?;
    } else {
        done(output, &format!("{shown} is made, with {}", plural(records)))?;
    }
    Ok(Code::Done)
}

/// Stores the records of a dump; returns how many.
fn fill(database: &mut Database, input: impl BufRead, from: &str) -> Result<u64, Failure> {
    let mut reader = Reader::new(input);
    let mut records = 0;
    while let Some(record) = reader.next() {
        let (key, data) = record.map_err(|error| broken(&error, from))?;
        database.store(&key, &data, Store::Insert).map_err(|error| match error.fault() {
            Fault::Exists => {
                let line = reader.key_line();
                Failure::no(format!("{from}: line {line} of the dump: the key has a value already"))
                    .help("a rescue can find several values of a key; keep one of them in the dump")
            }
            _ => not_written(error),
        })?;
        records += 1;
    }
    Ok(records)
}

fn broken(error: &DumpError, from: &str) -> Failure {
    let message = format!("{from}: {}", chain(error));
    match error {
        DumpError::Io { .. } => Failure::cannot_tell(message),
        DumpError::End { .. } => Failure::no(message)
            .help("the dump was cut off; make it again, or remove its last record"),
        DumpError::Form { .. }
        | DumpError::Short { .. }
        | DumpError::Long { .. }
        | DumpError::Escape { .. }
        | DumpError::TooLong { .. } => Failure::no(message).help(
            "a dump has the form that `holdfast tdb dump`, without --json, or tdbdump prints",
        ),
    }
}

/// A copy that could not be written is a failure whatever kept it.
fn not_written(error: Error) -> Failure {
    Failure { code: Code::No, ..failure(error) }
}

fn unreadable(path: &Path, why: &io::Error) -> Failure {
    Failure::cannot_tell(format!("cannot read {}: {why}", path.display()))
}

fn unwritable(path: &Path, why: &io::Error) -> Failure {
    let help = match why.kind() {
        io::ErrorKind::AlreadyExists => "name a file that is not there yet, or remove this one",
        _ => "name a file in a folder that is there, and that you may write",
    };
    Failure::no(format!("cannot write {}: {why}", path.display())).help(help)
}
