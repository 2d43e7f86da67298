//! `tdb …`: looks into TDB files, changes and copies them, as the programs of tdb-tools do.
//!
//! Invariants: what changes a file locks it against its other users first, and waits for them no
//! longer than `--wait` says; a file that is no TDB file is never written over.
//! Source: the TDB specification, sections 6, 14 and 20.3.

mod change;
mod copy;
mod fresh;
mod look;

use super::args::duration;
use super::failure::{Code, Failure};
use super::output::{Closed, Output, Tone};
use super::text;
use change::SetArgs;
use clap::{Args, Subcommand};
use copy::{BackupArgs, RestoreArgs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tdb::{Database, Error, Fault, HashKind, Options};

/// What the help shows.
pub(crate) const EXAMPLE: &str = "\
Examples:
  holdfast tdb check /var/lib/samba/registry.tdb
  holdfast tdb dump /var/lib/samba/registry.tdb
  holdfast tdb backup /var/lib/samba/private/secrets.tdb /srv/backup/secrets.tdb";

/// `holdfast tdb …`.
#[derive(Subcommand, Debug)]
pub(crate) enum TdbCommand {
    /// Print all records, in the form of tdbdump
    #[command(after_help = DUMP_EXAMPLE)]
    Dump {
        #[command(flatten)]
        file: File,
        /// Save what can be saved of a damaged file, also what no chain reaches any more
        #[arg(long)]
        rescue: bool,
    },
    /// Check every rule of the format, and tell all that is wrong; exits with 1 if something is
    #[command(after_help = "Example:\n  holdfast tdb check /var/lib/samba/registry.tdb")]
    Check(File),
    /// Print the value of a key; exits with 1 if it has none
    #[command(after_help = GET_EXAMPLE)]
    Get {
        #[command(flatten)]
        file: File,
        /// The key; `\XX` is the byte with these hexadecimal digits
        #[arg(value_name = "KEY")]
        key: String,
        /// Print the bytes as they are, instead of escaped
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Give a key a value, in a transaction: all of it, or nothing
    #[command(after_help = change::SET_EXAMPLE)]
    Set(SetArgs),
    /// Delete a key and its value, in a transaction; exits with 1 if it has none
    #[command(after_help = change::DEL_EXAMPLE)]
    Del {
        #[command(flatten)]
        file: Shared,
        /// The key; `\XX` is the byte with these hexadecimal digits
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Show what the file consists of: records, free space, chains
    #[command(after_help = "Example:\n  holdfast tdb stat /var/lib/samba/registry.tdb")]
    Stat(File),
    /// Copy a file while others use it: one moment of it, compared and checked
    #[command(after_help = copy::BACKUP_EXAMPLE)]
    Backup(BackupArgs),
    /// Make a new file of a dump, of tdbdump or of `tdb dump`
    #[command(after_help = copy::RESTORE_EXAMPLE)]
    Restore(RestoreArgs),
    /// Write all records anew, close together, so that dead space becomes free
    #[command(after_help = change::REPACK_EXAMPLE)]
    Repack {
        #[command(flatten)]
        file: Shared,
        /// Also if the file is damaged: give up the records that no chain reaches any more
        #[arg(long)]
        drop_lost: bool,
    },
    /// Undo a transaction in which its writer was killed
    #[command(after_help = change::RECOVER_EXAMPLE)]
    Recover(Shared),
}

/// The file of a command that only looks.
#[derive(Args, Debug)]
pub(crate) struct File {
    /// A TDB file; it is only read, and not locked
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

/// The file of a command that locks it.
#[derive(Args, Debug)]
pub(crate) struct Shared {
    /// A TDB file; others may have it open
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Give up when others keep the file locked for longer than this; 0 = at once
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    wait: Duration,
}

/// What a file that is made will be like.
#[derive(Args, Debug)]
pub(crate) struct Shape {
    /// Chains of a new file: about as many as there will be records [default: 131]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    hash_size: Option<u32>,
    /// Spread the keys of a new file by Jenkins' hash, as Samba has it for its own files
    #[arg(long)]
    jenkins: bool,
}

/// Chains of a new file, unless asked otherwise; libtdb's number.
const CHAINS: u32 = 131;

impl Shape {
    fn is_given(&self) -> bool {
        self.jenkins || self.hash_size.is_some()
    }

    fn chains(&self) -> u32 {
        self.hash_size.unwrap_or(CHAINS)
    }

    fn hash(&self) -> HashKind {
        if self.jenkins { HashKind::Jenkins } else { HashKind::Default }
    }
}

const DUMP_EXAMPLE: &str = "\
Examples:
  holdfast tdb dump /var/lib/samba/registry.tdb
  holdfast tdb dump --rescue damaged.tdb > saved.dump";

const GET_EXAMPLE: &str = "\
Examples:
  holdfast tdb get registry.tdb 'HKLM\\00'
  holdfast tdb get --raw state.tdb leader";

/// `holdfast tdb …`.
pub(crate) fn run(output: &Output, action: &TdbCommand) -> Result<Code, Failure> {
    match action {
        TdbCommand::Dump { file, rescue: false } => look::dump(output, &open(file)?),
        TdbCommand::Dump { file, rescue: true } => look::rescue(output, &open(file)?),
        TdbCommand::Check(file) => look::check(output, file),
        TdbCommand::Get { file, key, raw } => look::get(output, &open(file)?, key, *raw),
        TdbCommand::Set(args) => change::set(output, args),
        TdbCommand::Del { file, key } => change::delete(output, file, key),
        TdbCommand::Stat(file) => look::stat(output, &open(file)?),
        TdbCommand::Backup(args) => copy::backup(output, args),
        TdbCommand::Restore(args) => copy::restore(output, args),
        TdbCommand::Repack { file, drop_lost } => change::repack(output, file, *drop_lost),
        TdbCommand::Recover(file) => change::recover(output, file),
    }
}

fn open(file: &File) -> Result<Database, Failure> {
    Database::open_read_only(&file.path).map_err(failure)
}

/// Opens a file that others may have open, to be locked.
fn open_shared(file: &Shared) -> Result<Database, Failure> {
    Options::new().wait(file.wait).open(&file.path).map_err(failure)
}

/// The bytes that a key or a value on the command line stands for.
fn bytes_of(what: &str, text: &str) -> Result<Vec<u8>, Failure> {
    tdb::dump::unescape(text.as_bytes()).ok_or_else(|| {
        Failure::usage(format!("the {what} `{text}` has a `\\` without two hexadecimal digits"))
            .help("write a `\\` as `\\5C`")
    })
}

fn no_such_key(key: &str) -> Failure {
    Failure::no(format!("no record has the key `{key}`"))
        .help("`holdfast tdb dump FILE` shows all keys, with their last byte")
}

fn damaged(path: &Path) -> Failure {
    Failure::no(format!("{} is damaged", text::clean(&path.display().to_string())))
        .help("`holdfast tdb check FILE` tells what is wrong, `tdb dump --rescue` saves what can be saved")
}

/// Says that it is done.
fn done(output: &Output, what: &str) -> Result<(), Closed> {
    output.line(&format!("{} {what}", output.paint.tone(Tone::Good, "✓")))
}

fn plural(records: u64) -> String {
    let plural = if records == 1 { "" } else { "s" };
    format!("{records} record{plural}")
}

/// A fault with what lies behind it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    }
}

/// A file that can't be read or locked has no answer; any other fault is one.
fn failure(error: Error) -> Failure {
    let chain = chain(&error);
    match error.fault() {
        Fault::Busy { .. } => Failure::cannot_tell(chain)
            .help("`fuser -v FILE` shows who has it open; `--wait 1m` waits longer for them"),
        Fault::Io { .. } | Fault::Cancelled { .. } => Failure::cannot_tell(chain),
        Fault::RecoveryPending { .. } => Failure::no(chain).help(
            "undo it with `holdfast tdb recover FILE`, or start the program that owns the file",
        ),
        Fault::Corrupt { .. } | Fault::OutOfBounds { .. } => {
            Failure::no(chain).help("save what can be saved with `holdfast tdb dump --rescue FILE`")
        }
        Fault::NotTdb { .. }
        | Fault::Header { .. }
        | Fault::Full { .. }
        | Fault::Exists
        | Fault::NotFound
        | Fault::WrongOrder { .. }
        | Fault::Spoiled
        | Fault::ReadOnly => Failure::no(chain),
    }
}
