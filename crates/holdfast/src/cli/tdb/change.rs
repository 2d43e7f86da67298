//! `tdb set`, `del`, `repack` and `recover`: changes to a file that others may have open.
//!
//! Why transactions, also for a single key: who changes a file by hand wants it changed or not, also
//! when the machine loses power half-way, and wants to know it on disk when the command returns.
//! Invariant: a file that counts its changes goes on counting, so that whoever keeps a copy of its
//! records in memory notices ours.
//! Source: the TDB specification, sections 14 and 16.

use super::{
    File, Shape, Shared, bytes_of, damaged, done, failure, fresh, no_such_key, open, open_shared,
    plural,
};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::Output;
use crate::cli::text;
use clap::Args;
use serde_json::json;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tdb::{Create, Database, Error, Fault, Options, Store};

/// A value that is read from elsewhere; a longer one would leave little of the 4 GiB of a file.
const VALUE_BYTES_MAX: u64 = 1 << 30;

pub(super) const SET_EXAMPLE: &str = "\
Others who use the file are kept out while it is written, and go on reading until then.

Examples:
  holdfast tdb set state.tdb leader 'node 3'
  holdfast tdb set registry.tdb 'HKLM\\00' --raw-from value.bin --modify
  holdfast tdb set --create --hash-size 1009 --jenkins new.tdb first '\\01\\00'";

pub(super) const DEL_EXAMPLE: &str = "\
Example:
  holdfast tdb del state.tdb leader";

pub(super) const REPACK_EXAMPLE: &str = "\
What nothing refers to becomes free for new records; the file does not become smaller.

Examples:
  holdfast tdb repack /var/lib/samba/registry.tdb
  holdfast tdb repack --drop-lost damaged.tdb";

pub(super) const RECOVER_EXAMPLE: &str = "\
Whoever opens the file for writing does the same; this does it where nobody else will.

Example:
  holdfast tdb recover /var/lib/samba/private/secrets.tdb";

/// `holdfast tdb set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    file: Shared,
    /// The key; `\XX` is the byte with these hexadecimal digits
    #[arg(value_name = "KEY")]
    key: String,
    /// The value, with bytes written as in the key
    #[arg(value_name = "VALUE", required_unless_present = "raw_from")]
    value: Option<String>,
    /// Take the value from this file, byte for byte; `-` is standard input
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    raw_from: Option<PathBuf>,
    /// Fail if the key has a value already
    #[arg(long, conflicts_with = "modify")]
    insert: bool,
    /// Fail if the key has no value yet
    #[arg(long, conflicts_with = "create")]
    modify: bool,
    /// Make the file if it is not there, for its owner alone
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    shape: Shape,
}

pub(super) fn set(output: &Output, args: &SetArgs) -> Result<Code, Failure> {
    if !args.create && args.shape.is_given() {
        let only = "--hash-size and --jenkins are for a file that is made";
        return Err(Failure::usage(only).help("add --create"));
    }
    let key = bytes_of("key", &args.key)?;
    let data = match (&args.value, &args.raw_from) {
        (_, Some(from)) => raw(from)?,
        (value, None) => bytes_of("value", value.as_deref().unwrap_or_default())?,
    };
    let how = match (args.insert, args.modify) {
        (true, _) => Store::Insert,
        (_, true) => Store::Modify,
        _ => Store::Replace,
    };
    let mut database = open_to_set(args)?;
    let replaced = in_transaction(&mut database, |transaction| {
        let replaced = transaction.exists(&key)?;
        transaction.store(&key, &data, how)?;
        Ok(replaced)
    });
    let replaced = replaced.map_err(|error| match error.fault() {
        Fault::Exists => Failure::no(format!("the key `{}` has a value already", args.key))
            .help("leave `--insert` out to replace it"),
        Fault::NotFound => no_such_key(&args.key),
        _ => failure(error),
    })?;
    let (key, bytes) = (tdb::dump::escape(&key), data.len());
    if output.json {
        output.json(&json!({ "key": key, "bytes": bytes, "replaced": replaced }))?;
    } else {
        let kind = if replaced { "another" } else { "a first" };
        done(output, &format!("`{key}` has {kind} value, of {bytes} bytes"))?;
    }
    Ok(Code::Done)
}

fn open_to_set(args: &SetArgs) -> Result<Database, Failure> {
    let Shared { path, wait } = &args.file;
    let is_new = args.create && !path.exists();
    let create = if args.create { Create::Missing } else { Create::Never };
    let options = Options::new().wait(*wait).create(create);
    let options = options.hash_size(args.shape.chains()).hash(args.shape.hash());
    let database = options.open(path).map_err(|error| {
        let help = match error.fault() {
            Fault::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`--create` makes a file that is not there, in a folder that is"
            }
            Fault::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "the file has to be writable, and a new one its folder"
            }
            _ => return failure(error),
        };
        failure(error).help(help)
    })?;
    if is_new {
        let folder = fresh::folder(path);
        fresh::sync_folder(folder)
            .map_err(|why| Failure::no(format!("cannot sync {}: {why}", folder.display())))?;
    }
    Ok(database)
}

/// A value byte for byte.
fn raw(from: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |why: io::Error| {
        Failure::cannot_tell(format!("cannot read the value from {}: {why}", from.display()))
    };
    let mut value = Vec::new();
    let read = if from == Path::new("-") {
        io::stdin().lock().take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)
    } else {
        let file = std::fs::File::open(from).map_err(unreadable)?;
        file.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)
    };
    read.map_err(unreadable)?;
    if VALUE_BYTES_MAX < value.len() as u64 {
        return Err(Failure::no(format!("the value in {} is longer than 1 GiB", from.display())));
    }
    Ok(value)
}

pub(super) fn delete(output: &Output, file: &Shared, key: &str) -> Result<Code, Failure> {
    let bytes = bytes_of("key", key)?;
    let mut database = open_shared(file)?;
    let deleted = in_transaction(&mut database, |transaction| transaction.delete(&bytes));
    deleted.map_err(|error| match error.fault() {
        Fault::NotFound => no_such_key(key),
        _ => failure(error),
    })?;
    let key = tdb::dump::escape(&bytes);
    if output.json {
        output.json(&json!({ "key": key }))?;
    } else {
        done(output, &format!("`{key}` is deleted"))?;
    }
    Ok(Code::Done)
}

fn in_transaction<T>(
    database: &mut Database,
    change: impl FnOnce(&mut Database) -> Result<T, Error>,
) -> Result<T, Error> {
    go_on_counting(database)?;
    let mut transaction = database.transaction()?;
    let outcome = change(&mut transaction)?;
    transaction.commit()?;
    Ok(outcome)
}

fn go_on_counting(database: &mut Database) -> Result<(), Error> {
    if database.header()?.sequence != 0 {
        database.count_changes();
    }
    Ok(())
}

pub(super) fn repack(output: &Output, file: &Shared, drop_lost: bool) -> Result<Code, Failure> {
    let mut database = open_shared(file)?;
    // Only what can be reached is written again, and what can't be is gone then.
    if !drop_lost && !database.check().map_err(failure)?.is_clean() {
        return Err(damaged(&file.path));
    }
    go_on_counting(&mut database).and_then(|()| database.repack()).map_err(failure)?;
    let stats = database.stats().map_err(failure)?;
    let (records, size, free) = (stats.keys.count, stats.size, stats.free.sum);
    if output.json {
        output.json(&json!({ "records": records, "size": size, "free": free }))?;
    } else {
        let path = text::clean(&file.path.display().to_string());
        let what = format!("{path} has {}; {free} of {size} bytes are free", plural(records));
        done(output, &what)?;
    }
    Ok(Code::Done)
}

pub(super) fn recover(output: &Output, file: &Shared) -> Result<Code, Failure> {
    let pending = match Database::open_read_only(&file.path) {
        Err(error) if matches!(error.fault(), Fault::RecoveryPending { .. }) => true,
        other => other.map(|_| false).map_err(failure)?,
    };
    if pending {
        // Opening is what undoes it, once whoever may still be writing has ended.
        open_shared(file)?;
    }
    let database = open(&File { path: file.path.clone() })?;
    let report = database.check().map_err(failure)?;
    if !report.is_clean() {
        return Err(damaged(&file.path));
    }
    if output.json {
        output.json(&json!({ "pending": pending, "records": report.live }))?;
    } else {
        let path = text::clean(&file.path.display().to_string());
        let state =
            if pending { "interrupted transaction any more" } else { "interrupted transaction" };
        let records = plural(report.live);
        done(output, &format!("{path} has no {state}; it is sound and has {records}"))?;
    }
    Ok(Code::Done)
}
