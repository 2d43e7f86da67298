//! The flood: a service writes as fast as it can, and every line must be in its log.

use super::Stop;
use super::faults::Outcome;
use super::settings::FLOOD_BYTES;
use super::world::{LOOK_EVERY, World};
use crate::cli::text;
use control::ServiceAction;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More than any disk that can hold the log needs.
const FLOOD_MAX: Duration = Duration::from_secs(30);

/// SIGUSR1.
const USR1: i32 = 10;

/// Enough for the last line.
const TAIL_BYTES: u64 = 256;

/// Tells `flood` to write, waits for its last line, and counts.
pub(super) fn carry_out(world: &mut World) -> Result<Outcome, Stop> {
    let log = PathBuf::from(world.instance("flood")?.log);
    let cannot = |why| Stop::Broken(format!("cannot read {}: {why}", log.display()));
    let begin = Position::end_of(&log).map_err(cannot)?;
    let clients = world.visitor_begin();
    let begun = Instant::now();
    world.command(ServiceAction::Signal(USR1), "flood")?;
    while !ends_with_flood(&log, &begin).map_err(cannot)? {
        if FLOOD_MAX < begun.elapsed() {
            return Ok(Err(format!("the last line is not in {}", log.display())));
        }
        world.pause(LOOK_EVERY)?;
    }
    let took = begun.elapsed();
    let clients = world.visitor_totals().answered - clients.answered;
    let slowest = text::took(Duration::from_micros(world.visitor_totals().slowest_us));
    let rate = FLOOD_BYTES as f64 / 1e6 / took.as_secs_f64();
    Ok(count(&log, &begin).map_err(cannot)?.map(|lines| {
        let seen = format!("{clients} web requests meanwhile, slowest {slowest}");
        (took, format!("{lines} lines at {rate:.0} MB/s, none lost; {seen}"))
    }))
}

/// A place in a file that may be rotated away.
#[derive(Debug)]
struct Position {
    inode: u64,
    offset: u64,
}

impl Position {
    fn end_of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { inode: metadata.ino(), offset: metadata.len() })
    }
}

/// Whether the last line is there, and belongs to this flood.
fn ends_with_flood(log: &Path, begin: &Position) -> io::Result<bool> {
    let mut file = File::open(log)?;
    let metadata = file.metadata()?;
    if metadata.ino() == begin.inode && metadata.len() <= begin.offset {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    Ok(text.ends_with('\n') && text.lines().last().is_some_and(|l| l.starts_with("flood ends")))
}

/// Counts the lines of this flood; the inner failure says which is missing.
fn count(log: &Path, begin: &Position) -> io::Result<Result<u64, String>> {
    let mut rotated = log.as_os_str().to_owned();
    rotated.push(".1");
    let mut readers: Vec<Box<dyn Read>> = Vec::new();
    let is_rotated = std::fs::metadata(log)?.ino() != begin.inode;
    let first = if is_rotated { Path::new(&rotated) } else { log };
    let mut file = File::open(first)?;
    file.seek(SeekFrom::Start(begin.offset))?;
    readers.push(Box::new(file));
    if is_rotated {
        readers.push(Box::new(File::open(log)?));
    }
    let mut last = 0_u64;
    for reader in readers {
        for line in BufReader::new(reader).lines() {
            let line = line?;
            let Some(number) = line.strip_prefix("line ").and_then(|l| l.get(..10)) else {
                continue;
            };
            match number.parse::<u64>() {
                Ok(number) if number == last + 1 => last = number,
                _ => return Ok(Err(format!("line {last} is followed by `{line}`"))),
            }
        }
    }
    Ok(if 0 < last { Ok(last) } else { Err("no line is there".to_owned()) })
}
