//! What an earlier daemon left behind: alive services are adopted, leftovers are cleaned up.
//!
//! A process is believed to be a service's only if pid, start time and boot id agree, or if it
//! carries the token of the run in its environment: never by pid alone. A record of another boot
//! is ignored (G7).

use super::driver::Driver;
use super::hands::{Job, Realm, RunKey, TreeWork};
use super::records::{self, StoredRecord};
use super::runs::{Run, group_name, run_of_group};
use crate::paths::Paths;
use base::{InstanceId, Now, RunId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use supervisor::{Adopted, Input, Pid, ServiceSpec};
use sys::tree::Tree;

/// A run that may go on, found and verified.
pub(crate) struct Prepared {
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) tree: Arc<Mutex<Tree>>,
    pub(crate) group: Option<sys::cgroup::Group>,
    pub(crate) known: Vec<u32>,
    pub(crate) since: Now,
    pub(crate) slot: u16,
}

/// Processes by the instance and run that their token names.
type Tokens = BTreeMap<(InstanceId, RunId), Vec<u32>>;

/// What is left of earlier daemons.
pub(crate) struct Remains {
    /// By instance, and the youngest run of each first.
    records: Vec<(InstanceId, StoredRecord)>,
    tokens: Tokens,
    /// Notify sockets and pipes, and of which run they are.
    files: Vec<(RunId, PathBuf)>,
}

impl Remains {
    /// Looks. Reads all of /proc once.
    pub(crate) fn find(paths: &Paths, state_id: &str, boot_id: &str) -> (Self, Vec<String>) {
        let (records, mut complaints) = records::read_all(&paths.records());
        let (records, stale): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(_, record)| record.boot_id == boot_id);
        if !stale.is_empty() {
            complaints.push(format!(
                "{} run records are of an earlier boot of this machine and say nothing about now: \
                 ignored",
                stale.len()
            ));
        }
        for (path, _) in stale {
            let _ = records::remove(&path);
        }
        let mut named = Vec::new();
        for (path, record) in records {
            let Ok(instance) = record.instance.parse::<InstanceId>() else { continue };
            let proper = paths.record(&instance, record.run());
            if path != proper && std::fs::rename(&path, &proper).is_err() {
                complaints.push(format!("the run record {} has a wrong name", path.display()));
            }
            named.push((instance, record));
        }
        named.sort_by_key(|(instance, record)| (instance.clone(), Reverse(record.run())));
        let prefix = format!("{state_id}/");
        let mut tokens = Tokens::new();
        for (pid, token) in sys::tree::find_by_token_prefix(&prefix) {
            let Some((instance, run)) = token[prefix.len()..].rsplit_once('/') else { continue };
            // Duties have an `@` in their token, which is no instance's name.
            if let (Ok(instance), Ok(run)) = (instance.parse(), run.parse()) {
                tokens.entry((instance, RunId(run))).or_default().push(pid);
            }
        }
        (Self { records: named, tokens, files: files_of_runs(paths) }, complaints)
    }

    /// The highest run number ever used here.
    pub(crate) fn last_run(&self) -> u64 {
        let recorded = self.records.iter().map(|(_, record)| record.run().0);
        recorded.chain(self.tokens.keys().map(|(_, run)| run.0)).max().unwrap_or(0)
    }
}

impl Driver {
    /// Tells the core of everything that an earlier daemon left, and cleans up what belongs to
    /// nobody any more. Returns how many runs go on.
    pub(crate) fn adopt(&mut self, remains: Remains) -> usize {
        let Remains { records, mut tokens, files } = remains;
        let groups = self.cgroups.list();
        let mut adopted = 0;
        for (instance, record) in records {
            let run = record.run();
            let marked = tokens.remove(&(instance.clone(), run)).unwrap_or_default();
            let spec = self.config.services.get(&instance.service).cloned();
            match spec.filter(|spec| spec.instance_ids().any(|known| known == instance)) {
                Some(spec) => {
                    // The youngest that was present speaks for its instance; others that are alive
                    // go on their way.
                    if record.is_present() {
                        self.recorded.entry(instance.clone()).or_insert(run);
                    }
                    adopted += usize::from(self.adopt_one(instance, &spec, &record, &marked));
                }
                None => self.leave(&instance, run, marked, "it is no longer in the configuration"),
            }
        }
        for ((instance, run), pids) in tokens {
            self.clean_up(&instance, run, pids, "no record names its run");
        }
        self.sweep(&groups, files);
        adopted
    }

    fn adopt_one(
        &mut self,
        instance: InstanceId,
        spec: &Arc<ServiceSpec>,
        record: &StoredRecord,
        marked: &[u32],
    ) -> bool {
        let core = record.to_core();
        let main = verified_main(record).or_else(|| eldest(record, marked));
        let key = RunKey { realm: Realm::Services, instance: instance.clone(), run: core.run };
        let known = main.iter().map(|(pid, _)| *pid).chain(marked.iter().copied()).collect();
        let tree = self.tree_of(&key, known);
        let (group, known) = (tree.group.clone(), tree.known.clone());
        let tree = Arc::new(Mutex::new(tree));
        let since = Now::from_nanos(record.since_ns);
        let (alive, pidfd) = match main {
            Some((pid, pidfd)) => (Some(Pid(pid)), Some(pidfd)),
            None => (None, None),
        };
        if alive.is_some() {
            let slot = core.slot;
            self.prepared.insert(key, Prepared { pidfd, tree, group, known, since, slot });
        } else {
            // Its end was not seen. What it may have left behind is looked for by the core.
            let mut run = Run::new(Arc::clone(spec), since);
            (run.tree, run.group, run.known) = (Some(tree), group, known);
            self.services.runs.insert(key, run);
        }
        let adopted = Adopted {
            instance,
            alive,
            age: sys::clock::now().since(since),
            outdated: record.digest != records::digest(spec),
            record: core,
        };
        self.tell(Realm::Services, Input::Adopt(adopted));
        alive.is_some()
    }

    /// A run that does not go on: kills what is left of it, and forgets it.
    fn leave(&mut self, instance: &InstanceId, run: RunId, marked: Vec<u32>, why: &str) {
        self.clean_up(instance, run, marked, why);
        let records = vec![self.paths.record(instance, run)];
        self.hands.give(instance, Job::Forget { records });
    }

    /// Kills what is left of a run that belongs to nobody any more.
    fn clean_up(&mut self, instance: &InstanceId, run: RunId, pids: Vec<u32>, why: &str) {
        let key = RunKey { realm: Realm::Services, instance: instance.clone(), run };
        let tree = self.tree_of(&key, pids);
        let left = tree.members();
        if left.is_empty() {
            return;
        }
        let pids = left.iter().map(|member| member.pid.to_string()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "{instance} was left running by an earlier holdfast (pid {pids}) and {why}: killed"
        );
        let severity = control::Severity::Warning;
        self.events.say(&instance.to_string(), "service.stray", severity, message);
        let tree = Arc::new(Mutex::new(tree));
        let work = TreeWork::Kill;
        self.hands
            .give_for_run(&key, Job::Tree { key: key.clone(), tree: Arc::clone(&tree), work });
        self.hands.give_for_run(&key, Job::Release { paths: Vec::new(), tree: Some(tree) });
    }

    /// How the processes of an earlier daemon's run are found.
    fn tree_of(&self, key: &RunKey, known: Vec<u32>) -> Tree {
        let name = group_name(&key.instance, key.run);
        // The group lies where the daemon was that made it, which need not be where this one is.
        let by_process = known.iter().find_map(|pid| self.cgroups.open_of_process(&name, *pid));
        Tree {
            group: by_process.or_else(|| self.cgroups.open(&name)),
            token: self.token(&key.instance, key.run),
            known,
        }
    }

    /// Removes groups, sockets and pipes of runs that nobody goes on with. A group in which a
    /// process is stays: the kernel sees to that.
    fn sweep(&mut self, groups: &[String], files: Vec<(RunId, PathBuf)>) {
        let held = self.prepared.keys().chain(self.services.runs.iter().map(|(key, _)| key));
        let held: BTreeSet<RunId> = held.map(|key| key.run).collect();
        let is_stale =
            |name: &&String| run_of_group(name).is_none_or(|(_, run)| !held.contains(&run));
        let groups = groups.iter().filter(is_stale).filter_map(|name| self.cgroups.open(name));
        let groups = groups.collect();
        let paths = files.into_iter().filter(|(run, _)| !held.contains(run));
        let paths = paths.map(|(_, path)| path).collect();
        let Ok(anybody) = "sweep".parse::<InstanceId>() else { return };
        self.hands.give(&anybody, Job::Sweep { groups, paths });
    }
}

/// The files that are named after a run: notify sockets, and pipes of event listeners.
fn files_of_runs(paths: &Paths) -> Vec<(RunId, PathBuf)> {
    let run_of = |path: &PathBuf| {
        let stem = path.file_stem()?.to_str()?;
        match path.extension()?.to_str()? {
            "sock" => Some(RunId(stem.parse().ok()?)),
            "in" | "events" => run_of_group(stem).map(|(_, run)| run),
            _ => None,
        }
    };
    let directories = [paths.notify_dir(), paths.fifos()];
    let entries = directories.iter().flat_map(std::fs::read_dir).flatten().flatten();
    entries.map(|entry| entry.path()).filter_map(|path| Some((run_of(&path)?, path))).collect()
}

/// The recorded main process, if it still is the same one.
fn verified_main(record: &StoredRecord) -> Option<(u32, OwnedFd)> {
    let (pid, start_ticks) = (record.main?, record.start_ticks?);
    let pidfd = sys::pidfd::open(pid).ok()?;
    // Looked at after the pidfd was opened: the answer is about the process that it holds.
    sys::proc_fs::is_same_process(pid, start_ticks).then_some((pid, pidfd))
}

/// Where the record was written before its process was known: the eldest that carries its token.
fn eldest(record: &StoredRecord, marked: &[u32]) -> Option<(u32, OwnedFd)> {
    if record.main.is_some() {
        return None;
    }
    let stats = marked.iter().filter_map(|pid| sys::proc_fs::stat(*pid).ok());
    let eldest = stats.min_by_key(|stat| (stat.start_ticks, stat.pid))?;
    let pidfd = sys::pidfd::open(eldest.pid).ok()?;
    sys::proc_fs::is_same_process(eldest.pid, eldest.start_ticks).then_some((eldest.pid, pidfd))
}
