//! One contender after the other: start, rest, deaths; and what came of it.
//!
//! Invariants: contenders never run at the same time; between two of them nothing of the first is
//! left; the pauses between deaths are drawn from a fixed seed and are the same for all.

use super::Size;
use super::contender::{Contender, Scene};
use super::idle::{Executed, Idle, Reports, now_ns};
use super::process::{self, Handle, Use};
use crate::report::{say, title};
use crate::tidy::metadata::Metadata;
use crate::tool;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Who has not started all by then is measured with fewer. The slowest contender known starts four
/// processes a second.
const START_DEADLINE: Duration = Duration::from_mins(2);
/// Then it gets this part of them: what the slowest one starts in half of that time.
const FEWER: usize = 5;
/// A start that takes longer is not measured again: its spread is not what matters about it.
const REPEATED_START_MAX: Duration = Duration::from_mins(1);
/// What a supervisor may still do after a start: close files, write state.
const SETTLE: Duration = Duration::from_secs(10);
/// Beyond this, a successor counts as never started.
const SUCCESSOR_DEADLINE: Duration = Duration::from_secs(20);
/// Deaths are spread over the cycle of supervisors that look once a second; otherwise each would
/// come right after the look that noticed the last one.
const PAUSE_MAX_MS: u64 = 1_000;
const ORDERLY_END_DEADLINE: Duration = Duration::from_secs(30);
const END_DEADLINE: Duration = Duration::from_mins(1);

/// What one contender did.
pub(crate) struct Figures {
    /// From the start of the supervisor to the exec of the last process, per start, sorted.
    pub(crate) starts: Vec<Duration>,
    /// Of the supervisor's own processes, over the idle time; 1.0 is a whole core.
    pub(crate) cpu_share: f64,
    /// At rest.
    pub(crate) rest: Use,
    /// Each of its own processes at rest, if there are few.
    pub(crate) parts: Vec<(String, Use)>,
    /// From the kill to the successor's exec, sorted.
    pub(crate) successors: Vec<Duration>,
    /// Processes that were not started again in time.
    pub(crate) lost: usize,
    /// It could not start all in time: what the figures are about instead.
    pub(crate) fewer: Option<Fewer>,
}

/// What came of the attempt with all processes.
#[derive(Clone, Copy)]
pub(crate) struct Fewer {
    /// Started by then.
    pub(crate) started: usize,
    /// The time it was given.
    pub(crate) within: Duration,
    /// Processes of the second attempt, which the figures are of.
    pub(crate) processes: usize,
}

/// What is known of a contender: its figures, or why there are none.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) figures: Result<Figures, String>,
}

pub(crate) fn all(
    contenders: &[Contender],
    size: &Size,
    program: Option<&Path>,
) -> Result<Vec<Outcome>> {
    let holdfast = match program {
        Some(program) => fs::canonicalize(program)
            .with_context(|| format!("there is no {}", program.display()))?,
        None => release_binary(contenders)?,
    };
    let folder = std::env::temp_dir().join(format!("holdfast-bench-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let outcomes = Idle::build(&folder).map(|idle| {
        let one = |contender| one(contender, size, &folder, &idle, &holdfast);
        contenders.iter().map(one).collect()
    });
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    outcomes
}

/// The program of ours, built as it is shipped; only if it takes part.
fn release_binary(contenders: &[Contender]) -> Result<PathBuf> {
    if contenders.iter().all(|contender| contender.program.is_some()) {
        return Ok(PathBuf::new());
    }
    title("release build of holdfast");
    tool::run(tool::cargo().args(["build", "--release", "--locked", "--package", "holdfast"]))?;
    Ok(Metadata::load()?.target_directory.join("release/holdfast"))
}

fn one(contender: &Contender, size: &Size, folder: &Path, idle: &Idle, holdfast: &Path) -> Outcome {
    title(contender.name);
    let name = contender.name;
    let version = match contender.version(holdfast) {
        Ok(version) => version,
        Err(why) => {
            say(&format!("skipped: {why}"));
            return Outcome { name, version: String::new(), figures: Err(why) };
        }
    };
    let measured = measure(contender, size, folder, idle, holdfast);
    let figures = measured.map_err(|error| format!("{error:#}"));
    if let Err(why) = &figures {
        say(&format!("failed: {why}"));
    }
    Outcome { name, version, figures }
}

fn measure(
    contender: &Contender,
    size: &Size,
    folder: &Path,
    idle: &Idle,
    holdfast: &Path,
) -> Result<Figures> {
    let mut starts = Vec::new();
    let (mut processes, mut rounds, mut fewer) = (size.processes, size.rounds, None);
    for turn in 1.. {
        let folder = folder.join(format!("{}-{turn}", contender.name));
        fs::create_dir(&folder)?;
        let reports = Reports::open(&folder.join("fifo"))?;
        let scene = Scene { folder: &folder, idle, fifo: reports.path(), processes, holdfast };
        let words = (contender.prepare)(&scene)?;
        let mut running = Running::launch(&words, &folder, idle)?;
        let (took, alive) = running.wait_for_all(&reports, processes)?;
        if alive.len() < processes {
            running.end()?;
            let (started, within) = (alive.len(), START_DEADLINE);
            say(&format!("{started} of {processes} were started in {} s", within.as_secs()));
            if fewer.is_some() || processes < FEWER {
                bail!("only {started} of {processes} were started in {} s", within.as_secs());
            }
            processes /= FEWER;
            rounds = rounds.min(processes);
            fewer = Some(Fewer { started, within, processes });
            continue;
        }
        say(&format!("start {turn}: {:.2} s", took.as_secs_f64()));
        starts.push(took);
        if starts.len() == size.starts || fewer.is_some() || REPEATED_START_MAX < took {
            let rest = rest(&running, &reports, size)?;
            let (successors, lost) = deaths(&mut running, &reports, &alive, rounds)?;
            starts.sort();
            running.end()?;
            let Rest { cpu_share, used, parts } = rest;
            return Ok(Figures { starts, cpu_share, rest: used, parts, successors, lost, fewer });
        }
        running.end()?;
    }
    bail!("nothing was measured")
}

struct Rest {
    cpu_share: f64,
    used: Use,
    parts: Vec<(String, Use)>,
}

/// Own processes that are worth a line each.
const PARTS_MAX: usize = 6;

fn rest(running: &Running<'_>, reports: &Reports, size: &Size) -> Result<Rest> {
    let early = reports.count_for(SETTLE)?;
    let pids = running.own()?;
    let before = process::used(&pids);
    let begun = Instant::now();
    let executed = reports.count_for(size.idle)?;
    let took = begun.elapsed();
    let used = process::used(&pids);
    if 0 < early + executed {
        bail!("{} processes were started again though none had died", early + executed);
    }
    let cpu_share = used.cpu_ns.saturating_sub(before.cpu_ns) as f64 / took.as_nanos() as f64;
    say(&format!(
        "rest: {:.3} % of a core, {:.1} MiB RSS in {} processes",
        cpu_share * 100.0,
        used.rss_kib as f64 / 1024.0,
        used.processes
    ));
    let parts = if pids.len() <= PARTS_MAX {
        pids.iter().map(|pid| (process::role(*pid), process::used_by(*pid))).collect()
    } else {
        Vec::new()
    };
    Ok(Rest { cpu_share, used, parts })
}

/// Kills one process after the other, each once; returns the sorted times and the lost ones.
fn deaths(
    running: &mut Running<'_>,
    reports: &Reports,
    alive: &[Executed],
    rounds: usize,
) -> Result<(Vec<Duration>, usize)> {
    let mut pauses = Pauses(0x9E37_79B9_7F4A_7C15);
    let mut times = Vec::new();
    let mut lost = 0;
    let stride = alive.len() / rounds;
    for round in 0..rounds {
        let strangers = reports.count_for(pauses.next())?;
        if 0 < strangers {
            bail!("{strangers} processes were started though none was missing");
        }
        running.must_run()?;
        let victim = alive[round * stride].pid;
        let killed_ns = now_ns();
        if !process::kill_idle(victim, running.idle.program()) {
            bail!("process {victim} had ended before it was killed");
        }
        match reports.next(Instant::now() + SUCCESSOR_DEADLINE)? {
            Some(successor) => {
                times.push(Duration::from_nanos(successor.at_ns.saturating_sub(killed_ns)));
            }
            None => lost += 1,
        }
    }
    times.sort();
    if let (Some(median), Some(worst)) = (quantile(&times, 50), times.last()) {
        say(&format!("successors: median {median:.2?}, worst {worst:.2?}, lost {lost}"));
    }
    Ok((times, lost))
}

/// The value below which `percent` of the sorted times lie.
pub(crate) fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * percent).div_ceil(100)).copied()
}

/// Pauses of 0 to [`PAUSE_MAX_MS`]; xorshift, because nothing here depends on better chance.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % PAUSE_MAX_MS)
    }
}

/// A contender at work. Dropping it ends it and everything that it supervises.
struct Running<'a> {
    child: Child,
    begun_ns: u64,
    idle: &'a Idle,
    folder: PathBuf,
    own_log: PathBuf,
    ended: bool,
}

impl<'a> Running<'a> {
    fn launch(words: &[std::ffi::OsString], folder: &Path, idle: &'a Idle) -> Result<Running<'a>> {
        let own_log = folder.join("output.log");
        let log = fs::File::create(&own_log)?;
        // All get the same generous limit of descriptors: some need several for each process.
        let mut command = tool::command("sh");
        command
            .args(["-c", "ulimit -n 65536; exec \"$@\"", "sh"])
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let begun_ns = now_ns();
        let child = command.spawn().context("cannot start the supervisor")?;
        Ok(Running { child, begun_ns, idle, folder: folder.to_path_buf(), own_log, ended: false })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    fn own(&self) -> Result<BTreeSet<i32>> {
        process::own(self.pid(), self.idle.program())
    }

    /// Waits until so many processes were executed, or the deadline has passed; the time is that of
    /// the last of them.
    fn wait_for_all(
        &mut self,
        reports: &Reports,
        processes: usize,
    ) -> Result<(Duration, Vec<Executed>)> {
        let deadline = Instant::now() + START_DEADLINE;
        let mut alive = Vec::new();
        while alive.len() < processes {
            // Short steps, so that a supervisor that has given up is noticed at once.
            let step = deadline.min(Instant::now() + Duration::from_secs(1));
            match reports.next(step)? {
                Some(executed) => alive.push(executed),
                None if deadline <= Instant::now() => break,
                None => self.must_run()?,
            }
        }
        let last = alive.iter().map(|executed| executed.at_ns).max().unwrap_or(self.begun_ns);
        Ok((Duration::from_nanos(last.saturating_sub(self.begun_ns)), alive))
    }

    fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = fs::read_to_string(&self.own_log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("the supervisor ended with {status}: {}", tail.join(" | "));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let own: Vec<Handle> = self.own()?.into_iter().filter_map(Handle::open).collect();
        let (_never, timer) = std::sync::mpsc::channel::<()>();
        let deadline = Instant::now() + ORDERLY_END_DEADLINE;
        // Some stop their services then, some leave them; what is left is killed afterwards.
        Handle::open(self.pid()).iter().for_each(process::ask);
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            let _ = timer.recv_timeout(Duration::from_millis(20));
        }
        let deadline = Instant::now() + END_DEADLINE;
        while !process::end(&own, self.idle.program())? {
            // The root is a child of ours: as long as nobody asks how it ended, it is not gone.
            let _ = self.child.try_wait()?;
            if deadline < Instant::now() {
                bail!("processes of this contender cannot be killed");
            }
            let _ = timer.recv_timeout(Duration::from_millis(20));
        }
        self.child.wait()?;
        self.ended = true;
        trial::remove_cgroups(&self.folder.join("state"));
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.end()
        {
            say(&format!("cannot clean up: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_sorted_times() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Some(Duration::from_millis(51)));
        assert_eq!(quantile(&times, 95), Some(Duration::from_millis(96)));
        assert_eq!(quantile(&times, 100), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&times[..1], 95), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 50), None);
    }

    #[test]
    fn pauses_cover_the_whole_cycle() {
        let mut pauses = Pauses(1);
        let drawn: Vec<u64> = (0..200).map(|_| pauses.next().as_millis() as u64).collect();
        assert!(drawn.iter().all(|pause| *pause < PAUSE_MAX_MS));
        assert!(drawn.iter().any(|pause| *pause < 100) && drawn.iter().any(|pause| 900 < *pause));
    }
}
