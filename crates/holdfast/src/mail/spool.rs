//! The mail that waits, on disk: one file a mail, and one file that says what is true.
//!
//! ```text
//! state.json   how far events were read, what the reporter keeps, the next number
//! cursor       how far events were read, for those who delete old event files
//! 12.mail      waits; `12.new` is about to; `12.part` is being written anew
//! refused/     what a server has refused for good
//! ```
//! A step is: write `N.new`, then `state.json` which names it, then rename it to `N.mail`. What the
//! state names is finished by the next opening, what it does not name never was.
//! Invariants: `kill -9` or a power cut at any moment loses no mail and queues none twice; after an
//! error nothing has changed, and the same step may be tried again.

use super::stored::{StoredKept, StoredLetter, VERSION};
use anyhow::{Context as _, ensure};
use journal::segment::{Position, Positions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use supervisor::report::{Kept, Letter};

/// Refused mails that are kept to be looked at; the oldest go, and are counted.
pub(super) const REFUSED_MAX: usize = 100;

/// A mail's file is a bounded letter; a longer one is none of ours.
const MAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One mail, as it stands in its file.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Mail {
    version: u32,
    /// Its number.
    pub(crate) number: u64,
    /// When it was queued, microseconds since the epoch.
    pub(crate) queued_us: i64,
    /// Who has not got it yet.
    pub(crate) to: BTreeSet<String>,
    /// Recipients that were refused for good, with the server's words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refused: BTreeMap<String, String>,
    letter: StoredLetter,
}

impl Mail {
    /// What it tells.
    pub(crate) fn letter(&self) -> Letter {
        self.letter.clone().into()
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct State {
    version: u32,
    next_number: u64,
    positions: BTreeMap<String, (u64, u64)>,
    kept: StoredKept,
    /// Mails that exist from now on …
    publish: Vec<u64>,
    /// … and those that do no longer.
    remove: Vec<u64>,
    /// Recipients that were refused for good, since the beginning.
    refused: u64,
    /// Mails that were merged into others, since the beginning.
    merged: u64,
}

/// See the module's head. Every method blocks on the disk.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    cursor: PathBuf,
    state: State,
    /// The last step of the state is not finished yet.
    unfinished: bool,
}

/// What the opening found.
pub(crate) struct Opened {
    /// How far events were read; `None` = begin with what happens now.
    pub(crate) positions: Option<Positions>,
    /// What the reporter goes on with.
    pub(crate) kept: Kept,
    /// What waits, oldest first.
    pub(crate) mails: Vec<Mail>,
    /// What could not be read, one sentence each.
    pub(crate) complaints: Vec<String>,
}

impl Spool {
    /// Opens the directory (made if it is missing) and finishes what was begun.
    pub(crate) fn open(dir: &Path, cursor: &Path) -> anyhow::Result<(Self, Opened)> {
        Self::make_dir(&dir.join("refused"))?;
        let mut complaints = Vec::new();
        let state = match read_state(&dir.join("state.json")) {
            Ok(state) => state,
            Err(error) => {
                let kept = dir.join("state.json.bad");
                let _ = fs::rename(dir.join("state.json"), &kept);
                complaints.push(format!(
                    "the mail duty's state can't be read ({error:#}); it is kept as {}, and mail \
                     begins with what happens now",
                    kept.display()
                ));
                None
            }
        };
        let fresh = state.is_none();
        let state = state.unwrap_or_else(|| State {
            version: VERSION,
            next_number: 1,
            positions: BTreeMap::new(),
            kept: (&Kept::default()).into(),
            publish: Vec::new(),
            remove: Vec::new(),
            refused: 0,
            merged: 0,
        });
        // Without a cursor mail was turned off meanwhile: what happened then is not told.
        let resumed = !fresh && cursor.exists();
        let (dir, cursor) = (dir.to_owned(), cursor.to_owned());
        let mut spool = Self { dir, cursor, state, unfinished: true };
        spool.finish()?;
        spool.sweep()?;
        let mails = spool.read_all(&mut complaints)?;
        let highest = mails.last().map_or(0, |mail| mail.number);
        spool.state.next_number = spool.state.next_number.max(highest + 1);
        let positions = spool.state.positions.iter().map(|(source, (segment, offset))| {
            (source.clone(), Position { segment: *segment, offset: *offset })
        });
        let positions = resumed.then(|| positions.collect());
        let kept = spool.state.kept.clone().into();
        Ok((spool, Opened { positions, kept, mails, complaints }))
    }

    /// Makes a directory of the spool, for nobody else.
    pub(crate) fn make_dir(dir: &Path) -> anyhow::Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("cannot make {}", dir.display()))
    }

    /// Queues letters for these recipients, and remembers how far events were read and what the
    /// reporter keeps: all of it or nothing.
    pub(crate) fn commit(
        &mut self,
        positions: &Positions,
        kept: &Kept,
        letters: &[Letter],
        to: &BTreeSet<String>,
    ) -> anyhow::Result<Vec<Mail>> {
        let mut next = self.state.clone();
        next.positions =
            positions.iter().map(|(s, at)| (s.clone(), (at.segment, at.offset))).collect();
        next.kept = kept.into();
        let queued_us = sys::clock::wall().as_micros();
        let mails: Vec<Mail> = (next.next_number..)
            .zip(letters)
            .map(|(number, letter)| Mail {
                version: VERSION,
                number,
                queued_us,
                to: to.clone(),
                refused: BTreeMap::new(),
                letter: letter.into(),
            })
            .collect();
        next.next_number += mails.len() as u64;
        self.step(next, &mails, Vec::new())?;
        if let Err(error) = journal::segment::save_cursor(&self.cursor, positions) {
            // It may lag behind: that only keeps event files for longer.
            let error = anyhow::Error::new(error);
            tracing::warn!(error = %format!("{error:#}"), "the mail duty's cursor is not written");
        }
        Ok(mails)
    }

    /// Makes one mail of several, for all who wait for one of them.
    pub(crate) fn merge(&mut self, numbers: &[u64]) -> anyhow::Result<Mail> {
        let mails = numbers.iter().map(|number| self.load(*number));
        let mails = mails.collect::<anyhow::Result<Vec<_>>>()?;
        let to = mails.iter().flat_map(|mail| mail.to.clone()).collect();
        let queued_us = mails.iter().map(|mail| mail.queued_us).min();
        let merged = mails.iter().map(Mail::letter).reduce(|mut all, next| {
            all.merge(next);
            all
        });
        let letter = merged.context("there is nothing to merge")?;
        let mut next = self.state.clone();
        let mail = Mail {
            version: VERSION,
            number: next.next_number,
            queued_us: queued_us.unwrap_or_default(),
            to,
            refused: BTreeMap::new(),
            letter: (&letter).into(),
        };
        next.next_number += 1;
        next.merged += numbers.len() as u64;
        self.step(next, std::slice::from_ref(&mail), numbers.to_vec())?;
        Ok(mail)
    }

    /// Reads one mail that waits.
    pub(crate) fn load(&mut self, number: u64) -> anyhow::Result<Mail> {
        self.finish()?;
        read_mail(&self.mail_path(number))
    }

    /// A server has answered: only `left` have not got it yet, and `refused` never will.
    pub(crate) fn settle(
        &mut self,
        number: u64,
        left: &BTreeSet<String>,
        refused: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let mut mail = self.load(number)?;
        if !refused.is_empty() {
            self.keep_refused(&mail, refused)?;
        }
        if left.is_empty() {
            let path = self.mail_path(number);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else {
            mail.to.retain(|recipient| left.contains(recipient));
            self.write(&mail, "part")?;
            fs::rename(self.path(number, "part"), self.mail_path(number))?;
        }
        self.sync_dir()
    }

    /// Recipients refused for good, and mails merged, since the beginning.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.state.refused, self.state.merged)
    }

    /// Writes what is not durable: how the queue stands, for those who look.
    pub(crate) fn write_status(&self, status: &impl Serialize) -> anyhow::Result<()> {
        let fresh = self.dir.join("status.new");
        let mut file = create(&fresh)?;
        file.write_all(&serde_json::to_vec(status)?)?;
        Ok(fs::rename(&fresh, self.dir.join("status.json"))?)
    }

    /// One step, all of it or nothing.
    fn step(&mut self, mut next: State, mails: &[Mail], remove: Vec<u64>) -> anyhow::Result<()> {
        self.finish()?;
        next.publish = mails.iter().map(|mail| mail.number).collect();
        next.remove = remove;
        for mail in mails {
            self.write(mail, "new")?;
        }
        self.write_state(&next)?;
        self.state = next;
        // From here on it has happened; what can't be finished now is finished by the next step.
        self.unfinished = true;
        if let Err(error) = self.finish() {
            tracing::warn!(error = %format!("{error:#}"), "a step of the mail queue is unfinished");
        }
        Ok(())
    }

    /// Finishes the last step.
    fn finish(&mut self) -> anyhow::Result<()> {
        if !self.unfinished {
            return Ok(());
        }
        for number in &self.state.publish {
            let fresh = self.path(*number, "new");
            gone_is_fine(fs::rename(&fresh, self.mail_path(*number)))
                .with_context(|| format!("cannot rename {}", fresh.display()))?;
        }
        for number in &self.state.remove {
            let path = self.mail_path(*number);
            gone_is_fine(fs::remove_file(&path))
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        self.sync_dir()?;
        self.unfinished = false;
        Ok(())
    }

    /// Removes what no step has named.
    fn sweep(&self) -> anyhow::Result<()> {
        for path in list(&self.dir, &["new", "part"])? {
            gone_is_fine(fs::remove_file(path))?;
        }
        Ok(())
    }

    fn read_all(&self, complaints: &mut Vec<String>) -> anyhow::Result<Vec<Mail>> {
        let mut mails = Vec::new();
        for path in list(&self.dir, &["mail"])? {
            match read_mail(&path) {
                Ok(mail) => mails.push(mail),
                Err(error) => {
                    let kept = path.with_extension("bad");
                    let _ = fs::rename(&path, &kept);
                    let message =
                        format!("a mail that waited can't be read, it is kept: {error:#}");
                    complaints.push(message);
                }
            }
        }
        mails.sort_by_key(|mail| mail.number);
        Ok(mails)
    }

    fn keep_refused(
        &mut self,
        mail: &Mail,
        refused: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let kept = Mail {
            to: refused.keys().cloned().collect(),
            refused: refused.clone(),
            ..mail.clone()
        };
        // A mail's recipients may be refused one after the other: each time is a file.
        let name = format!("{:020}-{}.mail", mail.number, self.state.refused);
        let path = self.dir.join("refused").join(name);
        let mut file = create(&path)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        let all = list(&self.dir.join("refused"), &["mail"])?;
        for old in all.iter().take(all.len().saturating_sub(REFUSED_MAX)) {
            gone_is_fine(fs::remove_file(old))?;
        }
        let next =
            State { refused: self.state.refused + refused.len() as u64, ..self.state.clone() };
        self.write_state(&next)?;
        self.state = next;
        Ok(())
    }

    fn write(&self, mail: &Mail, extension: &str) -> anyhow::Result<()> {
        let path = self.path(mail.number, extension);
        let write = || {
            let mut file = create(&path)?;
            file.write_all(&serde_json::to_vec(mail)?)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_state(&self, state: &State) -> anyhow::Result<()> {
        let (fresh, path) = (self.dir.join("state.new"), self.dir.join("state.json"));
        let write = || {
            let mut file = create(&fresh)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn sync_dir(&self) -> anyhow::Result<()> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.with_context(|| format!("cannot sync {}", self.dir.display()))
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.dir.join(format!("{number}.{extension}"))
    }

    fn mail_path(&self, number: u64) -> PathBuf {
        self.path(number, "mail")
    }
}

/// All mails that wait in a directory, and all that were refused, for those who only look: what
/// can't be read is left out.
pub(crate) fn look(dir: &Path) -> io::Result<(Vec<Mail>, Vec<Mail>)> {
    let read = |dir: &Path| -> io::Result<Vec<Mail>> {
        let paths = match list(dir, &["mail"]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut mails: Vec<Mail> = paths.iter().filter_map(|path| read_mail(path).ok()).collect();
        mails.sort_by_key(|mail| mail.number);
        Ok(mails)
    };
    Ok((read(dir)?, read(&dir.join("refused"))?))
}

fn read_state(path: &Path) -> anyhow::Result<Option<State>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let state: State = serde_json::from_str(&text)?;
    ensure!(state.version == VERSION, "it has version {}, not {VERSION}", state.version);
    Ok(Some(state))
}

fn read_mail(path: &Path) -> anyhow::Result<Mail> {
    let read = || -> anyhow::Result<Mail> {
        let mail: Mail =
            serde_json::from_str(&sys::regular::read_to_string(path, MAIL_BYTES_MAX)?)?;
        ensure!(mail.version == VERSION, "it has version {}, not {VERSION}", mail.version);
        Ok(mail)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Nobody else may read it: it quotes what services wrote.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Files with one of these extensions, by name.
fn list(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if extensions.contains(&extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
