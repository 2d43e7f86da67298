//! `import supervisord`: the configuration of another supervisor as one of ours.
//!
//! Invariant: only the configuration goes to standard output; a file that is there is never
//! overwritten; what is written may hold secrets, and is for its owner alone.

use super::failure::{Code, Failure};
use super::locate;
use super::output::{Output, Tone};
use clap::Subcommand;
use config::{ImportWorld, Imported, Note, NoteKind};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the help shows.
pub(crate) const EXAMPLE: &str = "\
Examples:
  holdfast import supervisord /etc/supervisor/supervisord.conf > holdfast.toml
  holdfast config check ./holdfast.toml";

const SUPERVISORD_EXAMPLE: &str = "\
What has no counterpart is told on standard error, each with its place and what to do instead.
Variables that the file asks for by %(ENV_x)s are taken from the environment of this command.

Examples:
  holdfast import supervisord /etc/supervisor/supervisord.conf -o holdfast.toml
  holdfast import supervisord /etc/supervisor/supervisord.conf --json";

/// `holdfast import …`.
#[derive(Subcommand, Debug)]
pub(crate) enum ImportCommand {
    /// A supervisord.conf, with the files that it includes
    #[command(after_help = SUPERVISORD_EXAMPLE)]
    Supervisord {
        /// The file that supervisord is started with
        file: PathBuf,
        /// Write here instead of to standard output; the file may not be there yet
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `holdfast import …`.
pub(crate) fn run(output: &Output, from: &ImportCommand) -> Result<Code, Failure> {
    let ImportCommand::Supervisord { file, output: to } = from;
    let context = locate::context();
    let world = ImportWorld {
        hostname: &context.hostname,
        environment: &|name| std::env::var(name).ok(),
        sha256: &sha256,
    };
    let imported = config::load_supervisord(file, &world).map_err(|why| {
        Failure::usage(format!("cannot read {}: {why}", file.display()))
            .help("name the file that supervisord is started with")
    })?;
    if let Some(to) = to {
        write_new(to, &imported.toml).map_err(|why| cannot_write(to, &why))?;
    }
    if output.json {
        output.json(&as_json(&imported))?;
        return Ok(Code::Done);
    }
    if to.is_none() {
        output.raw(imported.toml.as_bytes())?;
    }
    for note in &imported.notes {
        output.note(&note.to_string());
    }
    output.note(&summary(output, &imported, to.as_deref()));
    Ok(Code::Done)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn cannot_write(path: &Path, why: &io::Error) -> Failure {
    let help = match why.kind() {
        io::ErrorKind::AlreadyExists => "name a file that is not there yet, or remove this one",
        _ => "name a file in a directory that you may write",
    };
    Failure::no(format!("cannot write {}: {why}", path.display())).help(help)
}

fn as_json(imported: &Imported) -> Value {
    json!({
        "toml": imported.toml,
        "services": imported.services,
        "notes": imported.notes.iter().map(Note::to_json).collect::<Vec<_>>(),
        "left_out": imported.left_out,
    })
}

fn summary(output: &Output, imported: &Imported, to: Option<&Path>) -> String {
    let count = |kind| imported.notes.iter().filter(|note| note.kind == kind).count();
    let noun = if imported.services == 1 { "service" } else { "services" };
    let more = match imported.left_out {
        0 => String::new(),
        n => format!(" ({n} more notes not shown)"),
    };
    let (lost, changed) = (count(NoteKind::Lost), count(NoteKind::Changed));
    let tone = if lost == 0 { Tone::Good } else { Tone::Busy };
    let sign = output.paint.tone(tone, if lost == 0 { "✓" } else { "!" });
    let next = match to {
        Some(to) => format!("; look at it, then `holdfast config check {}`", to.display()),
        None => String::new(),
    };
    format!("{sign} {} {noun}; {lost} lost, {changed} changed{more}{next}", imported.services)
}
