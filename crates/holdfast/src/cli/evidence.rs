//! `evidence list|show|export`: what is kept of sick runs.
//!
//! Asked of the console; where that can't be reached, the state directory is read directly, by
//! whoever may.

use super::args::{EvidenceCommand, Global};
use super::failure::{Code, Failure};
use super::http::{Api, encode};
use super::output::{Closed, Output};
use super::{locate, text};
use base::ByteSize;
use control::{EvidenceEntry, EvidenceIndex};
use flate2::Compression;
use flate2::write::GzEncoder;
use journal::evidence::{BundleId, Evidence};
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Read of a file at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// What is read of a file, and its size.
type Content = (Box<dyn Read>, u64);

#[derive(Deserialize)]
struct List {
    bundles: Vec<EvidenceEntry>,
}

/// Where bundles are read.
struct Source {
    api: Api,
    state: PathBuf,
}

impl Source {
    fn of(global: &Global) -> Result<Self, Failure> {
        let api = Api::beside(&locate::control_socket(global)?);
        Ok(Self { api, state: locate::state_dir(global)? })
    }

    /// Asks the console, and looks for itself where that can't be reached.
    fn ask<T>(
        &self,
        path: &str,
        parse: impl FnOnce(Vec<u8>) -> Result<T, Failure>,
        read: impl FnOnce(Evidence) -> io::Result<T>,
    ) -> Result<T, Failure> {
        match self.api.get(path) {
            Ok(body) => parse(body),
            Err(failure) if failure.code == Code::CannotTell => {
                read(Evidence::of_state(&self.state)).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => nothing(),
                    _ => Failure::cannot_tell(format!("{}; {error}", failure.message)),
                })
            }
            Err(failure) => Err(failure),
        }
    }

    fn list(&self, of: Option<&str>) -> Result<Vec<EvidenceEntry>, Failure> {
        let query = of.map_or(String::new(), |name| format!("?of={}", encode(name)));
        let path = format!("/api/v1/evidence{query}");
        self.ask(&path, |body| Ok(json::<List>(&body)?.bundles), |files| files.list(of))
    }

    fn index(&self, bundle: &BundleId) -> Result<EvidenceIndex, Failure> {
        self.ask(&path_of(bundle, None), |body| json(&body), |files| files.index(bundle))
    }

    /// A file of a bundle, and its size: from the disk where we may read it, as it may be large.
    fn file(&self, bundle: &BundleId, name: &str) -> Result<Content, Failure> {
        if let Ok((file, bytes)) = Evidence::of_state(&self.state).open(bundle, name) {
            return Ok((Box::new(file.take(bytes)), bytes));
        }
        let body = self.api.get(&path_of(bundle, Some(name)))?;
        let bytes = body.len() as u64;
        Ok((Box::new(io::Cursor::new(body)), bytes))
    }
}

fn path_of(bundle: &BundleId, file: Option<&str>) -> String {
    let file = file.map_or(String::new(), |name| format!("/{}", encode(name)));
    format!("/api/v1/evidence/{}/{}{file}", encode(bundle.instance()), encode(bundle.id()))
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::cannot_tell(format!("the answer makes no sense: {error}")))
}

fn nothing() -> Failure {
    Failure::no("there is no such evidence").help("`holdfast evidence list` shows what there is")
}

/// `holdfast evidence …`.
pub(crate) fn run(
    output: &Output,
    global: &Global,
    command: EvidenceCommand,
) -> Result<Code, Failure> {
    let source = Source::of(global)?;
    match command {
        EvidenceCommand::List { name } => list(output, &source, name.as_deref()),
        EvidenceCommand::Show { bundle, file } => {
            show(output, &source, &parse(&bundle)?, file.as_deref())
        }
        EvidenceCommand::Export { bundle, output: to } => {
            export(output, &source, &parse(&bundle)?, to)
        }
    }
}

fn parse(text: &str) -> Result<BundleId, Failure> {
    BundleId::parse(text).ok_or_else(|| {
        Failure::usage(format!("`{}` names no bundle", text::clean(text)))
            .help("a bundle is named like `web/20261124T102233.123Z-17`, as `evidence list` does")
    })
}

fn list(output: &Output, source: &Source, of: Option<&str>) -> Result<Code, Failure> {
    let bundles = source.list(of)?;
    if output.json {
        output.json(&bundles)?;
        return Ok(Code::Done);
    }
    if bundles.is_empty() {
        output.line("no evidence is kept")?;
    }
    let today = text::wall_now_us();
    for bundle in bundles {
        let size = ByteSize(bundle.bytes);
        let partial = if bundle.complete { "" } else { ", not all of it" };
        let when = text::local_time(bundle.begun_us, today);
        output.line(&format!("{}/{}", bundle.instance, bundle.id))?;
        let files = bundle.files;
        output.line(&format!("    {when}  {files} files, {size}{partial}"))?;
        for line in text::wrap(&text::clean(&bundle.cause), 76) {
            output.line(&format!("    {line}"))?;
        }
    }
    Ok(Code::Done)
}

fn show(
    output: &Output,
    source: &Source,
    bundle: &BundleId,
    file: Option<&str>,
) -> Result<Code, Failure> {
    if let Some(name) = file {
        let (mut file, _) = source.file(bundle, name)?;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = file.read(&mut block).map_err(Failure::cannot_tell)?;
            if read == 0 {
                return Ok(Code::Done);
            }
            output.raw(block.get(..read).unwrap_or(&[]))?;
        }
    }
    let index = source.index(bundle)?;
    if output.json {
        output.json(&index)?;
        return Ok(Code::Done);
    }
    let clean = |text: &str| text::clean(text);
    output.line(&format!("{bundle}"))?;
    output.line(&format!("  cause     {}", clean(&index.cause)))?;
    let pid = index.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    output.line(&format!("  run       {}{pid}, on {}", index.run, clean(&index.node)))?;
    output.line(&format!("  command   {}", clean(&index.command)))?;
    let uptime = std::time::Duration::from_millis(index.uptime_ms);
    output.line(&format!("  uptime    {}", text::age(uptime)))?;
    output.line(&format!("  gathered  within {} ms of {}", index.took_ms, index.budget_ms))?;
    for verdict in &index.verdicts {
        let (name, state) = (clean(&verdict.detector), clean(&verdict.state));
        output.line(&format!("  detector  {name} is {state}: {}", clean(&verdict.message)))?;
    }
    for (name, message) in &index.dependencies {
        output.line(&format!("  depends   {}: {}", clean(name), clean(message)))?;
    }
    output.line("")?;
    for file in &index.files {
        let size = ByteSize(file.bytes).to_string();
        output.line(&format!("  {:18} {size:>10}  {}", clean(&file.name), clean(&file.about)))?;
    }
    for missing in &index.missing {
        let help = if missing.help.is_empty() { "" } else { "; " };
        let (name, why) = (clean(&missing.name), clean(&missing.why));
        output.line(&format!("  {name:18} {:>10}  {why}{help}{}", "missing", missing.help))?;
    }
    output.line("")?;
    output.line(&format!("  see one: holdfast evidence show {bundle} threads.txt"))?;
    Ok(Code::Done)
}

fn export(
    output: &Output,
    source: &Source,
    bundle: &BundleId,
    to: Option<PathBuf>,
) -> Result<Code, Failure> {
    let index = source.index(bundle)?;
    let name = format!("{}-{}", bundle.instance().replace(':', "-"), bundle.id());
    let names = index.files.iter().map(|file| file.name.as_str());
    let mut files = Vec::new();
    for name in std::iter::once("index.json").chain(names) {
        files.push((name.to_owned(), source.file(bundle, name)?));
    }
    let cannot = |error: io::Error| Failure::no(format!("cannot pack {bundle}: {error}"));
    let seconds = u64::try_from(index.begun_us / 1_000_000).unwrap_or_default();
    if to.as_deref() == Some(Path::new("-")) {
        let packed = pack(io::stdout().lock(), &name, seconds, files);
        return match packed.map(drop) {
            Ok(()) => Ok(Code::Done),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
            Err(error) => Err(cannot(error)),
        };
    }
    let path = to.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // What a program had in its hands is nobody else's business.
    let mut options = std::fs::File::options();
    let created = options.write(true).create_new(true).mode(0o600).open(&path);
    let cannot_write = |error| Failure::no(format!("cannot write {}: {error}", path.display()));
    let file = created.map_err(cannot_write)?;
    let bytes = pack(file, &name, seconds, files)
        .and_then(|file| file.sync_all().and_then(|()| file.metadata()))
        .map_err(|error| {
            // Half an archive is none.
            let _ = std::fs::remove_file(&path);
            cannot(error)
        })?
        .len();
    if output.json {
        output.json(&serde_json::json!({ "path": path, "bytes": bytes }))?;
    } else {
        output.line(&format!("{} ({})", path.display(), ByteSize(bytes)))?;
    }
    Ok(Code::Done)
}

/// A gzipped tar archive of files in one directory (POSIX.1-1988 ustar).
fn pack<W: Write>(
    to: W,
    directory: &str,
    seconds: u64,
    files: Vec<(String, Content)>,
) -> io::Result<W> {
    let mut archive = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    for (name, (file, bytes)) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        archive.append_data(&mut header, format!("{directory}/{name}"), file)?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_an_archive_of_one_directory() {
        let file = |name: &str, text: &'static str| {
            let content: Box<dyn Read> = Box::new(text.as_bytes());
            (name.to_owned(), (content, text.len() as u64))
        };
        let files = vec![file("index.json", "{}"), file("a.txt", "x")];
        let packed = pack(Vec::new(), "web-1", 5, files).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let path = entry.path().unwrap().display().to_string();
            seen.push((path, text, entry.header().mode().unwrap()));
        }
        let expect = |path: &str, text: &str| (path.to_owned(), text.to_owned(), 0o600);
        assert_eq!(seen, [expect("web-1/index.json", "{}"), expect("web-1/a.txt", "x")]);
    }

    #[test]
    fn what_names_no_bundle_is_refused_with_an_example() {
        let failure = parse("../../etc").unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(parse("web:1/20261124T102233.123Z-17").is_ok());
    }
}
