//! The root's hands: a few threads that do what may block, so that the loop never does (D3, D4).
//!
//! Executing a program, opening a pipe, walking a process tree and writing a run record can all
//! hang on a sick disk or a sick process. What makes a run (its record, its execution) and what its
//! instance keeps (its pipes) is done in order, by the hand of the instance; what is done to a run
//! that was started (signals, commands, its tree, its removal) is done in order by another one: the
//! end of a run, which may take its time, never holds up the start of the next. A hand that hangs
//! costs only those that share it.
//! Invariant: every job that has an answer is answered exactly once.

use super::launch::{self, Launch, Launched};
use super::records::{self, StoredRecord};
use base::{InstanceId, RunId};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use supervisor::Pid;
use sys::tree::{Member, Tree};
use tokio::sync::mpsc;

/// How many hands there are: enough that a hanging one leaves others, few enough to cost nothing.
const HANDS: usize = 4;

/// Jobs that wait for one hand. Beyond it they wait in the driver, in order, which loses nothing:
/// the number of jobs is bounded by the number of instances. Room for these is held for ever.
const HAND_QUEUE_MAX: usize = 64;

/// Results that wait for the loop. A hand waits when it is full.
pub(crate) const RESULTS_MAX: usize = 4096;

/// Longest pid file that is read. The service writes it, so nothing in it is believed.
const PID_FILE_BYTES_MAX: u64 = 4096;

/// Which of the two supervisors a job belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Realm {
    /// The user's services.
    Services,
    /// Our own helper processes.
    Duties,
}

/// One run of one instance in one realm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct RunKey {
    pub(crate) realm: Realm,
    pub(crate) instance: InstanceId,
    pub(crate) run: RunId,
}

/// What is done about a process tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TreeWork {
    /// Look.
    Inspect,
    /// Send a signal to everything.
    Signal(i32),
    /// SIGKILL until nobody new is found.
    Kill,
}

/// Something that may block.
pub(crate) enum Job {
    /// Write a run record. No answer; a failure is a complaint.
    Persist { path: PathBuf, record: Box<StoredRecord>, start_of: Option<u32> },
    /// Remove files. No answer; one that is not there, or can't be removed, is no matter.
    Remove { paths: Vec<PathBuf> },
    /// Remove a run record, if the one that took its place stands. No answer; a failure is a
    /// complaint.
    Supersede { record: PathBuf, by: PathBuf },
    /// Remove run records. No answer; a failure is a complaint.
    Forget { records: Vec<PathBuf> },
    /// Execute a service.
    Launch(Box<Launch>),
    /// Execute a stop, reload or probe command.
    Command { key: super::driver::CommandKey, launch: Box<Launch> },
    /// Send a signal to one process.
    Signal { pidfd: Arc<OwnedFd>, signal: i32, key: RunKey },
    /// Look at, signal or kill a whole tree.
    Tree { key: RunKey, tree: Arc<Mutex<Tree>>, work: TreeWork },
    /// Look for the main process of a service that forks.
    FindMain { key: RunKey, tree: Arc<Mutex<Tree>>, pid_file: Option<PathBuf> },
    /// A service named its main process: is it one of its own?
    CheckMain { key: RunKey, tree: Arc<Mutex<Tree>>, pid: Pid },
    /// Remove what was held for a run: its notify socket and pipes, its control group. No answer.
    Release { paths: Vec<PathBuf>, tree: Option<Arc<Mutex<Tree>>> },
    /// Remove control groups and sockets of runs that were long ago. No answer.
    Sweep { groups: Vec<sys::cgroup::Group>, paths: Vec<PathBuf> },
    /// Let nothing of a tree be scheduled any more.
    Freeze { key: RunKey, tree: Arc<Mutex<Tree>> },
    /// Replace a file as a whole. No answer; a failure is a complaint.
    Write { path: PathBuf, bytes: Vec<u8> },
}

/// What has come of a job.
pub(crate) enum Done {
    /// Of a launch. `reaped_before` is the number of reaped processes when it began.
    Launched { key: RunKey, result: Result<Launched, launch::LaunchError>, reaped_before: u64 },
    /// Of a command's launch.
    CommandLaunched {
        key: super::driver::CommandKey,
        result: Result<Launched, launch::LaunchError>,
        reaped_before: u64,
    },
    /// Of tree work.
    Tree { key: RunKey, members: Vec<Member>, oom_kills: Option<u64> },
    /// Of an attempt to freeze.
    Frozen { key: RunKey, result: Result<(), String> },
    /// Of a search for the main process.
    MainFound { key: RunKey, main: Result<Pid, String>, pidfd: Option<OwnedFd> },
    /// Of a check of a named main process; no pidfd: it is not one of its own.
    MainSaid { key: RunKey, pid: Pid, pidfd: Option<OwnedFd> },
    /// Something did not work that nobody waits for.
    Complaint { subject: String, message: String },
}

/// The way to the hands.
pub(crate) struct Hands {
    senders: Vec<SyncSender<Job>>,
    waiting: Vec<VecDeque<Job>>,
    outstanding: Arc<AtomicUsize>,
}

impl Hands {
    /// Starts the threads. They end when this is dropped.
    pub(crate) fn start(
        results: &mpsc::Sender<Done>,
        reaped: &Arc<std::sync::atomic::AtomicU64>,
    ) -> std::io::Result<Self> {
        let outstanding = Arc::new(AtomicUsize::new(0));
        let mut senders = Vec::new();
        for number in 0..HANDS {
            let (sender, jobs) = sync_channel(HAND_QUEUE_MAX);
            let (results, reaped) = (results.clone(), Arc::clone(reaped));
            let outstanding = Arc::clone(&outstanding);
            std::thread::Builder::new()
                .name(format!("hand-{number}"))
                .stack_size(512 * 1024)
                .spawn(move || work(&jobs, &results, &reaped, &outstanding))?;
            senders.push(sender);
        }
        let waiting = (0..HANDS).map(|_| VecDeque::new()).collect();
        Ok(Self { senders, waiting, outstanding })
    }

    /// Gives a job to the hand of its instance. Never blocks.
    pub(crate) fn give(&mut self, instance: &InstanceId, job: Job) {
        self.give_to(hand_of_instance(instance), job);
    }

    /// Gives a job to the hand of its run, which is never that of its instance. Never blocks.
    pub(crate) fn give_for_run(&mut self, key: &RunKey, job: Job) {
        self.give_to(hand_of_run(&key.instance, key.run), job);
    }

    fn give_to(&mut self, hand: usize, job: Job) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        self.waiting[hand].push_back(job);
        self.flush_one(hand);
    }

    /// Passes on what had to wait. Called at each turn of the loop.
    pub(crate) fn flush(&mut self) {
        for hand in 0..self.senders.len() {
            self.flush_one(hand);
        }
    }

    fn flush_one(&mut self, hand: usize) {
        while let Some(job) = self.waiting[hand].pop_front() {
            match self.senders[hand].try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.waiting[hand].push_front(job);
                    return;
                }
            }
        }
    }

    /// Jobs given and not yet done.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Jobs that wait in the driver because a hand's queue is full.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

fn hand_of_instance(instance: &InstanceId) -> usize {
    let mut hasher = DefaultHasher::new();
    instance.hash(&mut hasher);
    hasher.finish() as usize % HANDS
}

/// One of the others, so that the end of a run does not wait in front of a start of its instance.
fn hand_of_run(instance: &InstanceId, run: RunId) -> usize {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    (hand_of_instance(instance) + 1 + hasher.finish() as usize % (HANDS - 1)) % HANDS
}

fn work(
    jobs: &Receiver<Job>,
    results: &mpsc::Sender<Done>,
    reaped: &std::sync::atomic::AtomicU64,
    outstanding: &AtomicUsize,
) {
    while let Ok(job) = jobs.recv() {
        let done = perform(job, reaped);
        if let Some(done) = done {
            // The loop is gone only when the process is about to end.
            let _ = results.blocking_send(done);
        }
        outstanding.fetch_sub(1, Ordering::Release);
    }
}

fn perform(job: Job, reaped: &std::sync::atomic::AtomicU64) -> Option<Done> {
    match job {
        Job::Persist { path, mut record, start_of } => {
            if let Some(pid) = start_of {
                record.start_ticks = sys::proc_fs::stat(pid).ok().map(|stat| stat.start_ticks);
            }
            complain(&record.instance, record.write(&path))
        }
        Job::Supersede { record, by } => match by.exists() {
            true => complain("holdfast", records::remove(&record)),
            false => None,
        },
        Job::Remove { paths } => {
            remove_files(&paths);
            None
        }
        Job::Forget { records } => {
            complain("holdfast", records.iter().try_for_each(|path| records::remove(path)))
        }
        Job::Launch(launch) => {
            let reaped_before = reaped.load(Ordering::Acquire);
            let key = launch.key.clone();
            let result = launch::launch(&launch);
            Some(Done::Launched { key, result, reaped_before })
        }
        Job::Command { key, launch } => {
            let reaped_before = reaped.load(Ordering::Acquire);
            Some(Done::CommandLaunched { key, result: launch::launch(&launch), reaped_before })
        }
        Job::Signal { pidfd, signal, key } => {
            let error = sys::pidfd::send_signal(pidfd.as_fd(), signal).err()?;
            let (subject, name) = (key.instance.to_string(), sys::process::signal_name(signal));
            let message = format!("cannot send {name} to {subject}: {error}");
            Some(Done::Complaint { subject, message })
        }
        Job::Tree { key, tree, work } => {
            let tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            let members = do_to_tree(&tree, work);
            let oom_kills = tree.group.as_ref().and_then(sys::cgroup::Group::oom_kills);
            Some(Done::Tree { key, members, oom_kills })
        }
        Job::FindMain { key, tree, pid_file } => {
            let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            let main = find_main(&tree.members(), pid_file.as_deref());
            let pidfd = main.as_ref().ok().and_then(|pid| hold(&mut tree, *pid));
            Some(Done::MainFound { key, main, pidfd })
        }
        Job::CheckMain { key, tree, pid } => {
            let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = tree.members().iter().any(|member| member.pid == pid.0);
            let pidfd = ours.then(|| hold(&mut tree, pid)).flatten();
            Some(Done::MainSaid { key, pid, pidfd })
        }
        Job::Release { paths, tree } => {
            remove_files(&paths);
            remove_group(&tree?.lock().unwrap_or_else(PoisonError::into_inner));
            None
        }
        Job::Freeze { key, tree } => {
            let tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            Some(Done::Frozen { key, result: tree.freeze().map_err(|error| error.to_string()) })
        }
        Job::Write { path, bytes } => complain("holdfast", records::replace(&path, &bytes)),
        Job::Sweep { groups, paths } => {
            for group in groups {
                let _ = group.remove_if_empty();
            }
            remove_files(&paths);
            None
        }
    }
}

fn do_to_tree(tree: &Tree, work: TreeWork) -> Vec<Member> {
    match work {
        TreeWork::Inspect => tree.members(),
        TreeWork::Signal(signal) => tree.signal_all(signal),
        TreeWork::Kill => tree.kill_all(),
    }
}

/// One that can't be removed yet is swept away by the next daemon.
fn remove_group(tree: &Tree) {
    if let Some(group) = &tree.group {
        let _ = group.remove();
    }
}

fn remove_files(paths: &[PathBuf]) {
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
}

fn complain(subject: &str, result: anyhow::Result<()>) -> Option<Done> {
    let message = format!("{:#}", result.err()?);
    Some(Done::Complaint { subject: subject.to_owned(), message })
}

/// A hold on a process of a tree, which from now on is known to belong to it. Done here, because
/// the loop must never wait for a tree: it is locked for seconds while it is being killed.
fn hold(tree: &mut Tree, pid: Pid) -> Option<OwnedFd> {
    let pidfd = sys::pidfd::open(pid.0).ok()?;
    if !tree.known.contains(&pid.0) {
        tree.known.push(pid.0);
    }
    Some(pidfd)
}

/// The main process of a service that forked: the one its pid file names, if that is one of its
/// own; without a pid file the eldest of those that no other of its processes is the parent of.
fn find_main(members: &[Member], pid_file: Option<&std::path::Path>) -> Result<Pid, String> {
    if let Some(path) = pid_file {
        let shown = path.display();
        let text = sys::regular::read_to_string(path, PID_FILE_BYTES_MAX)
            .map_err(|error| format!("its pid file {shown} cannot be read: {error}"))?;
        let pid: u32 = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("its pid file {shown} does not begin with a number"))?;
        return match members.iter().any(|member| member.pid == pid) {
            true => Ok(Pid(pid)),
            false => {
                Err(format!("its pid file {shown} names {pid}, which is none of its processes"))
            }
        };
    }
    members
        .iter()
        .filter(|member| !members.iter().any(|other| other.pid == member.ppid))
        .min_by_key(|member| (member.start_ticks, member.pid))
        .map(|member| Pid(member.pid))
        .ok_or_else(|| "no process of it is alive after the first one has exited".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: u32, ppid: u32, start_ticks: u64) -> Member {
        Member { pid, ppid, start_ticks, state: 'S', waits_in: None }
    }

    #[test]
    fn the_end_of_a_run_never_waits_in_front_of_a_start_of_its_instance() {
        let mut used = std::collections::BTreeSet::new();
        for (number, instance) in (0..64).map(|n| (n, format!("web:{n}"))) {
            let instance: InstanceId = instance.parse().unwrap();
            for run in number..number + 64 {
                assert_ne!(hand_of_run(&instance, RunId(run)), hand_of_instance(&instance));
                used.insert(hand_of_run(&instance, RunId(run)));
            }
        }
        assert_eq!(used.len(), HANDS);
    }

    #[test]
    fn d2_the_main_process_is_the_eldest_without_a_parent_among_them() {
        let family = [member(30, 20, 7), member(20, 1, 6), member(40, 1, 9)];
        assert_eq!(find_main(&family, None), Ok(Pid(20)));
        assert!(find_main(&[], None).unwrap_err().contains("no process of it is alive"));
    }

    #[test]
    fn d2_a_pid_file_is_believed_only_about_our_own_processes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        let family = [member(20, 1, 6), member(40, 1, 9)];
        assert!(find_main(&family, Some(&path)).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "40\n").unwrap();
        assert_eq!(find_main(&family, Some(&path)), Ok(Pid(40)));
        std::fs::write(&path, "1\n").unwrap();
        assert!(find_main(&family, Some(&path)).unwrap_err().contains("none of its processes"));
        std::fs::write(&path, "").unwrap();
        assert!(find_main(&family, Some(&path)).unwrap_err().contains("begin with a number"));
    }
}
