//! Reads a service's output as it stands on disk: its last lines, and what comes after them.
//!
//! Why: the command line and the console both show logs, also while the daemon is down.
//! Invariants: memory is bounded whatever the files hold; a line is given out once; a rotation
//! while reading loses nothing.

use flate2::read::MultiGzDecoder;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The most lines of one answer.
pub const TAIL_LINES_MAX: usize = 10_000;

/// The most bytes of one answer, and the most read of one rotated file before its end is reached.
pub const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A longer line is given out in pieces.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Rotated files looked at; the policy keeps fewer.
const ROTATED_MAX: u32 = 1_000;

/// Numbers that may be missing between rotated files: a writer that dies between two renames leaves
/// one out.
const GAPS_MAX: u32 = 4;

/// How much is read backwards at once.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The file that `path` becomes after `number` rotations: `web.log.1` or, compressed, `web.log.1.gz`.
pub fn rotated_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// As [`rotated_path`], compressed.
pub fn compressed_path(path: &Path, number: u32) -> PathBuf {
    let mut name = rotated_path(path, number).into_os_string();
    name.push(".gz");
    name.into()
}

/// The last `lines` lines of a log and its rotated files, oldest first, without line ends. What is
/// not UTF-8 is replaced. A log that does not exist yet is empty. At most [`TAIL_LINES_MAX`] lines
/// and [`TAIL_BYTES_MAX`] bytes.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let lines = lines.min(TAIL_LINES_MAX);
    Ok(tail_bytes(path, lines)?.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect())
}

fn tail_bytes(path: &Path, lines: usize) -> io::Result<VecDeque<Vec<u8>>> {
    let mut found: VecDeque<Vec<u8>> = VecDeque::new();
    if lines == 0 {
        return Ok(found);
    }
    let mut room = TAIL_BYTES_MAX;
    // A rotation while we read gives a file that we have read already another name.
    let mut seen = vec![inode_of(path)];
    prepend(&mut found, lines, &mut room, plain_tail(path, lines)?);
    let mut missing = 0;
    for number in 1..=ROTATED_MAX {
        if lines <= found.len() || room == 0 || GAPS_MAX < missing {
            break;
        }
        let plain = rotated_path(path, number);
        let inode = inode_of(&plain);
        if inode.is_some() && seen.contains(&inode) {
            continue;
        }
        seen.push(inode);
        let wanted = lines - found.len();
        let older = match plain_tail_if_present(&plain, wanted)? {
            Some(older) => Some(older),
            None => compressed_tail(&compressed_path(path, number), wanted)?,
        };
        match older {
            Some(older) => prepend(&mut found, lines, &mut room, older),
            None => missing += 1,
        }
    }
    Ok(found)
}

fn prepend(
    found: &mut VecDeque<Vec<u8>>,
    lines: usize,
    room: &mut usize,
    mut older: VecDeque<Vec<u8>>,
) {
    while found.len() < lines {
        let Some(line) = older.pop_back() else { return };
        if *room < line.len() {
            *room = 0;
            return;
        }
        *room -= line.len();
        found.push_front(line);
    }
}

fn plain_tail(path: &Path, lines: usize) -> io::Result<VecDeque<Vec<u8>>> {
    Ok(plain_tail_if_present(path, lines)?.unwrap_or_default())
}

/// Reads backwards, block by block, until there are enough line ends.
fn plain_tail_if_present(path: &Path, lines: usize) -> io::Result<Option<VecDeque<Vec<u8>>>> {
    let Some(file) = open_if_present(path)? else { return Ok(None) };
    let length = file.metadata()?.len();
    let mut begin = length;
    let mut blocks: VecDeque<Vec<u8>> = VecDeque::new();
    let mut ends = 0;
    let mut total = 0;
    // One more end than lines: that of the line before the first wanted one.
    while 0 < begin && ends <= lines && total < TAIL_BYTES_MAX {
        let step = begin.min(BLOCK_BYTES);
        begin -= step;
        let mut block = vec![0; step as usize];
        let read = read_full_at(&file, &mut block, begin)?;
        block.truncate(read);
        ends += block.split(|b| *b == b'\n').count() - 1;
        total += read;
        blocks.push_front(block);
    }
    let bytes: Vec<u8> = blocks.into_iter().flatten().collect();
    let mut collected = LastLines::new(lines);
    let first_whole = if begin == 0 { 0 } else { after_first_line_end(&bytes) };
    collected.take(&bytes[first_whole..]);
    Ok(Some(collected.finish()))
}

/// Where the first whole line begins, in bytes that begin somewhere within a line.
fn after_first_line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1)
}

/// A compressed file can only be read from its beginning; only the wanted lines are kept.
fn compressed_tail(path: &Path, lines: usize) -> io::Result<Option<VecDeque<Vec<u8>>>> {
    let Some(file) = open_if_present(path)? else { return Ok(None) };
    let mut reader = MultiGzDecoder::new(BufReader::new(file));
    let mut collected = LastLines::new(lines);
    let mut block = vec![0; BLOCK_BYTES as usize];
    loop {
        match reader.read(&mut block) {
            Ok(0) => break,
            Ok(read) => collected.take(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was whole before the damage is still worth showing.
            Err(_) => break,
        }
    }
    Ok(Some(collected.finish()))
}

/// Keeps the last lines of a stream, within [`TAIL_BYTES_MAX`].
struct LastLines {
    limit: usize,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    unfinished: Vec<u8>,
}

impl LastLines {
    fn new(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new(), bytes: 0, unfinished: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            for part in piece.chunks(LINE_BYTES_MAX) {
                if LINE_BYTES_MAX < self.unfinished.len() + part.len() {
                    self.end_line();
                }
                self.unfinished.extend_from_slice(part);
            }
            if self.unfinished.last() == Some(&b'\n') {
                self.unfinished.pop();
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.unfinished);
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.limit < self.lines.len() || TAIL_BYTES_MAX < self.bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    fn finish(mut self) -> VecDeque<Vec<u8>> {
        if !self.unfinished.is_empty() {
            self.end_line();
        }
        self.lines
    }
}

/// Follows a log over rotations. Pull-based: call [`Follow::poll`] when something may be new (the
/// caller decides how to wait).
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    open: Option<OpenFile>,
    unfinished: Vec<u8>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    inode: u64,
    offset: u64,
}

/// Begins to follow `path` at its present end (it need not exist yet).
pub fn follow(path: &Path) -> io::Result<Follow> {
    let mut follow = Follow { path: path.to_owned(), open: None, unfinished: Vec::new() };
    if let Some(file) = open_if_present(path)? {
        let meta = file.metadata()?;
        let offset = meta.len();
        follow.open = Some(OpenFile { file, inode: meta.ino(), offset });
    }
    Ok(follow)
}

/// Begins to follow `path` at the beginning of the file that is there now, or comes.
pub fn follow_from_start(path: &Path) -> Follow {
    Follow { path: path.to_owned(), open: None, unfinished: Vec::new() }
}

/// The last `lines` lines, and a [`Follow`] that goes on exactly behind them.
pub fn tail_and_follow(path: &Path, lines: usize) -> io::Result<(Vec<String>, Follow)> {
    // From here on everything is new; what was unfinished at that moment comes with its end.
    let mut follow = follow(path)?;
    let Some(open) = &mut follow.open else { return Ok((tail(path, lines)?, follow)) };
    open.offset = last_line_end(&open.file, open.offset)?;
    let (offset, inode) = (open.offset, open.inode);
    let mut before = tail_until(path, inode, offset, lines.min(TAIL_LINES_MAX))?;
    before.truncate(TAIL_LINES_MAX);
    Ok((before, follow))
}

/// As [`tail`], but of the file with `inode` only what is before `offset`, and nothing newer.
fn tail_until(path: &Path, inode: u64, offset: u64, lines: usize) -> io::Result<Vec<String>> {
    let current = open_if_present(path)?;
    let rotated_meanwhile =
        current.as_ref().is_none_or(|f| f.metadata().map_or(true, |m| m.ino() != inode));
    if lines == 0 {
        return Ok(Vec::new());
    }
    if rotated_meanwhile {
        // Rare, and only a question of where the shown history begins: the follower has the rest.
        return Ok(Vec::new());
    }
    let grown = current.map_or(0, |f| f.metadata().map_or(0, |m| m.len())).saturating_sub(offset);
    let extra = count_lines(path, offset, grown)?;
    let mut all = tail_bytes(path, (lines + extra).min(2 * TAIL_LINES_MAX))?;
    for _ in 0..extra {
        all.pop_back();
    }
    while lines < all.len() {
        all.pop_front();
    }
    Ok(all.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect())
}

/// Lines (and one unfinished one) in `length` bytes at `offset`.
fn count_lines(path: &Path, offset: u64, length: u64) -> io::Result<usize> {
    let Some(file) = open_if_present(path)? else { return Ok(0) };
    let mut bytes = vec![0; (length as usize).min(TAIL_BYTES_MAX)];
    let read = read_full_at(&file, &mut bytes, offset)?;
    let mut counted = LastLines::new(TAIL_LINES_MAX);
    counted.take(&bytes[..read]);
    Ok(counted.finish().len())
}

/// The place behind the last line end before `offset`, looking back one longest line at most.
fn last_line_end(file: &File, offset: u64) -> io::Result<u64> {
    let begin = offset.saturating_sub(LINE_BYTES_MAX as u64);
    let mut bytes = vec![0; (offset - begin) as usize];
    let read = read_full_at(file, &mut bytes, begin)?;
    let end = bytes[..read].iter().rposition(|b| *b == b'\n');
    Ok(end.map_or(begin, |at| begin + at as u64 + 1))
}

impl Follow {
    /// The lines that were finished since the last call, without line ends; at most `max` (the rest
    /// comes with the next call). Empty: nothing new.
    pub fn poll(&mut self, max: usize) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < max {
            if self.open.is_none() && !self.open_current()? {
                break;
            }
            let Some(read) = self.read_block()? else { break };
            self.split(&read, max, &mut lines);
            if read.is_empty() && !self.step_to_next_file(&mut lines)? {
                break;
            }
        }
        Ok(lines)
    }

    /// As [`Self::poll`], but bytes as they stand there, at most `max`. One or the other: lines that
    /// are not finished are not given twice.
    pub fn poll_bytes(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < max {
            if self.open.is_none() && !self.open_current()? {
                break;
            }
            let Some(mut block) = self.read_block()? else { break };
            block.truncate(max - bytes.len());
            if let Some(open) = &mut self.open {
                open.offset += block.len() as u64;
            }
            if block.is_empty() && !self.step_to_next_file(&mut Vec::new())? {
                break;
            }
            bytes.append(&mut block);
        }
        Ok(bytes)
    }

    /// Bytes of the file in hand that are still to come; those of later files are not counted.
    pub fn behind(&self) -> io::Result<u64> {
        let Some(open) = &self.open else { return Ok(0) };
        Ok(open.file.metadata()?.len().saturating_sub(open.offset))
    }

    fn open_current(&mut self) -> io::Result<bool> {
        let Some(file) = open_if_present(&self.path)? else { return Ok(false) };
        let inode = file.metadata()?.ino();
        self.open = Some(OpenFile { file, inode, offset: 0 });
        Ok(true)
    }

    /// The next bytes of the open file; empty at its end.
    fn read_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.file.metadata()?.len() < open.offset {
            // Somebody emptied the file: go on at its new beginning.
            open.offset = 0;
        }
        let mut block = vec![0; BLOCK_BYTES as usize];
        let read = read_full_at(&open.file, &mut block, open.offset)?;
        block.truncate(read);
        Ok(Some(block))
    }

    /// Takes whole lines, up to `max` in all, and moves the offset behind what was taken.
    fn split(&mut self, block: &[u8], max: usize, lines: &mut Vec<String>) {
        let Some(open) = &mut self.open else { return };
        for piece in block.split_inclusive(|b| *b == b'\n') {
            if max <= lines.len() {
                return;
            }
            open.offset += piece.len() as u64;
            self.unfinished.extend_from_slice(piece);
            let finished = self.unfinished.last() == Some(&b'\n');
            if finished {
                self.unfinished.pop();
            }
            if finished || LINE_BYTES_MAX <= self.unfinished.len() {
                let line = std::mem::take(&mut self.unfinished);
                lines.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }

    /// At the end of a file: if it was rotated, goes on with the one that came after it. False when
    /// there is none.
    fn step_to_next_file(&mut self, lines: &mut Vec<String>) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let current = inode_of(&self.path);
        if current == Some(open.inode) || current.is_none() {
            return Ok(false);
        }
        // It may have grown between our last read and the rotation.
        if open.offset < open.file.metadata()?.len() {
            return Ok(true);
        }
        let next = self.next_rotated(open.inode);
        if !self.unfinished.is_empty() {
            let line = std::mem::take(&mut self.unfinished);
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        self.open = None;
        if let Some(path) = next
            && let Some(file) = open_if_present(&path)?
        {
            let inode = file.metadata()?.ino();
            self.open = Some(OpenFile { file, inode, offset: 0 });
        }
        Ok(true)
    }

    /// The rotated file that follows the one with `inode`: several rotations may have happened
    /// between two looks. `None`: the current one follows (or the trail is lost).
    fn next_rotated(&self, inode: u64) -> Option<PathBuf> {
        let number = (1..=ROTATED_MAX)
            .map_while(|n| Some((n, inode_of(&rotated_path(&self.path, n))?)))
            .find(|(_, found)| *found == inode)
            .map(|(n, _)| n)?;
        (1 < number).then(|| rotated_path(&self.path, number - 1))
    }
}

fn inode_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.ino())
}

fn open_if_present(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads until `into` is full or the file ends; returns how much.
fn read_full_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
