//! `tdb …`: looks into TDB files, as `tdbdump` and `tdbtool` do.
//!
//! Invariant: nothing here writes to the file or locks it; keys and data go out escaped, unless raw
//! bytes were asked for, so that no record can play tricks on a terminal.
//! Source: the TDB specification, section 20.3, for the form of a dump.

use super::failure::{Code, Failure};
use super::output::{Closed, Output, Tone};
use super::text;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;
use tdb::{ByteOrder, Database, Error, Fault, HashKind, Stats, Tally};

/// What the help shows.
pub(crate) const EXAMPLE: &str = "\
Examples:
  holdfast tdb check /var/lib/samba/registry.tdb
  holdfast tdb dump /var/lib/samba/registry.tdb";

/// Text that is gathered before it is written.
const WRITE_BYTES: usize = 64 * 1024;

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
    /// Show what the file consists of: records, free space, chains
    #[command(after_help = "Example:\n  holdfast tdb stat /var/lib/samba/registry.tdb")]
    Stat(File),
}

/// The file of a command.
#[derive(Args, Debug)]
pub(crate) struct File {
    /// A TDB file; it is only read, and not locked
    #[arg(value_name = "FILE")]
    path: PathBuf,
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
        TdbCommand::Dump { file, rescue: false } => dump(output, &open(file)?),
        TdbCommand::Dump { file, rescue: true } => rescue(output, &open(file)?),
        TdbCommand::Check(file) => check(output, file),
        TdbCommand::Get { file, key, raw } => get(output, &open(file)?, key, *raw),
        TdbCommand::Stat(file) => stat(output, &open(file)?),
    }
}

fn open(file: &File) -> Result<Database, Failure> {
    Database::open_read_only(&file.path).map_err(failure)
}

/// A file that can't be read has no answer; any other fault is one.
fn failure(error: Error) -> Failure {
    let chain = match std::error::Error::source(&error) {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    };
    match error.fault() {
        Fault::Io { .. } | Fault::Busy { .. } | Fault::Cancelled { .. } => {
            Failure::cannot_tell(chain)
        }
        Fault::RecoveryPending { .. } => Failure::no(chain).help(
            "start the program that owns the file, or open it with tdbtool: whoever opens it for \
             writing undoes the transaction",
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

/// Writes records as they come, in pieces of a size that costs few calls.
struct Printer<'a> {
    output: &'a Output,
    pending: String,
}

impl Printer<'_> {
    fn record(&mut self, key: &[u8], data: &[u8]) -> Result<(), Closed> {
        if self.output.json {
            let line = json!({ "key": tdb::dump::escape(key), "data": tdb::dump::escape(data) });
            self.pending.push_str(&line.to_string());
            self.pending.push('\n');
        } else {
            self.pending.push_str(&tdb::dump::record(key, data));
        }
        if WRITE_BYTES <= self.pending.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        self.output.raw(std::mem::take(&mut self.pending).as_bytes())
    }
}

fn dump(output: &Output, database: &Database) -> Result<Code, Failure> {
    let mut printer = Printer { output, pending: String::new() };
    let mut closed = Ok(());
    let outcome = database.traverse(|key, data| {
        closed = printer.record(key, data);
        if closed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    closed?;
    // What was read before a fault is worth having.
    printer.flush()?;
    outcome.map_err(failure)?;
    Ok(Code::Done)
}

fn rescue(output: &Output, database: &Database) -> Result<Code, Failure> {
    let rescued = database.rescue().map_err(failure)?;
    let mut printer = Printer { output, pending: String::new() };
    for (key, data) in &rescued.records {
        printer.record(key, data)?;
    }
    printer.flush()?;
    if 0 < rescued.skipped {
        let skipped = rescued.skipped;
        output.note(&format!("{skipped} more that overlap others were left out"));
    }
    Ok(Code::Done)
}

fn get(output: &Output, database: &Database, key: &str, raw: bool) -> Result<Code, Failure> {
    let bytes = tdb::dump::unescape(key.as_bytes()).ok_or_else(|| {
        Failure::usage(format!("the key `{key}` has a `\\` without two hexadecimal digits"))
            .help("write a `\\` as `\\5C`")
    })?;
    let Some(value) = database.fetch(&bytes).map_err(failure)? else {
        let absent = Failure::no(format!("no record has the key `{key}`"));
        return Err(absent.help("`holdfast tdb dump FILE` shows all keys, with their last byte"));
    };
    if raw {
        output.raw(&value)?;
    } else if output.json {
        output.json(&json!({ "key": key, "data": tdb::dump::escape(&value) }))?;
    } else {
        output.line(&tdb::dump::escape(&value))?;
    }
    Ok(Code::Done)
}

fn check(output: &Output, file: &File) -> Result<Code, Failure> {
    let report = open(file)?.check().map_err(failure)?;
    let code = if report.is_clean() { Code::Done } else { Code::No };
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if output.json {
        let dead_space: Vec<Value> = report
            .dead_space
            .iter()
            .map(|(offset, length)| json!({ "offset": offset, "length": length }))
            .collect();
        output.json(&json!({
            "clean": report.is_clean(),
            "live": report.live,
            "dead": report.dead,
            "free": report.free,
            "dead_space": dead_space,
            "findings": findings,
            "findings_dropped": report.findings_dropped,
        }))?;
        return Ok(code);
    }
    for finding in &findings {
        output.line(&format!("{} {finding}", output.paint.tone(Tone::Bad, "✗")))?;
    }
    if 0 < report.findings_dropped {
        output.line(&format!("… and {} more", report.findings_dropped))?;
    }
    for (offset, length) in &report.dead_space {
        let what =
            format!("{length} bytes at {offset:#x} that nothing refers to; a repack frees them");
        output.line(&format!("{} {what}", output.paint.tone(Tone::Busy, "!")))?;
    }
    let path = text::clean(&file.path.display().to_string());
    if report.is_clean() {
        let plural = if report.live == 1 { "" } else { "s" };
        let what = format!("{path} is sound and has {} record{plural}", report.live);
        output.line(&format!("{} {what}", output.paint.tone(Tone::Good, "✓")))?;
        return Ok(code);
    }
    Err(Failure::no(format!("{path} is damaged"))
        .help("save what can be saved with `holdfast tdb dump --rescue FILE`"))
}

fn stat(output: &Output, database: &Database) -> Result<Code, Failure> {
    let stats = database.stats().map_err(failure)?;
    if output.json {
        output.json(&as_json(&stats))?;
    } else {
        output.page(&page(&stats))?;
    }
    Ok(Code::Done)
}

fn words(stats: &Stats) -> (&'static str, &'static str) {
    let hash = match stats.hash {
        HashKind::Default => "default",
        HashKind::Jenkins => "jenkins",
    };
    let order = match stats.order {
        ByteOrder::Little => "little-endian",
        ByteOrder::Big => "big-endian",
    };
    (hash, order)
}

fn as_json(stats: &Stats) -> Value {
    let (hash, order) = words(stats);
    let tally = |tally: &Tally| {
        json!({
            "count": tally.count, "min": tally.min, "mean": tally.mean(), "max": tally.max,
            "sum": tally.sum,
        })
    };
    json!({
        "size": stats.size, "hash": hash, "order": order, "mutex_size": stats.mutex_size,
        "sequence": stats.sequence, "keys": tally(&stats.keys), "data": tally(&stats.data),
        "padding": tally(&stats.padding), "dead": tally(&stats.dead), "free": tally(&stats.free),
        "chains": tally(&stats.chains), "recovery": stats.recovery,
        "dead_space": stats.dead_space,
    })
}

fn page(stats: &Stats) -> String {
    let (hash, order) = words(stats);
    let head = [
        ("size", stats.size.to_string()),
        ("hash", hash.to_owned()),
        ("byte order", order.to_owned()),
        ("mutex area", stats.mutex_size.to_string()),
        ("sequence", stats.sequence.to_string()),
        ("recovery area", stats.recovery.to_string()),
        ("dead space", stats.dead_space.to_string()),
    ];
    let tallies = [
        ("keys", &stats.keys),
        ("data", &stats.data),
        ("padding", &stats.padding),
        ("dead records", &stats.dead),
        ("free records", &stats.free),
        ("chains", &stats.chains),
    ];
    let mut page = String::new();
    page.extend(head.iter().map(|(name, value)| format!("{name:<14}{value:>12}\n")));
    page.push_str("\n                     count         min        mean         max         sum\n");
    for (name, tally) in tallies {
        let Tally { count, min, max, sum } = tally;
        let mean = tally.mean();
        let numbers = format!("{count:>12}{min:>12}{mean:>12}{max:>12}{sum:>12}");
        page.extend([format!("{name:<14}"), numbers, "\n".to_owned()]);
    }
    page
}
