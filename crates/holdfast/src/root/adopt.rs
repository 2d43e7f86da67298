//! What an earlier daemon left behind: alive services are adopted, leftovers are cleaned up.
//!
//! A process is believed to be a service's only if pid, start time and boot id agree, or if it
//! carries the token of the run in its environment: never by pid alone. A record of another boot
//! is ignored (G7).

use super::driver::{Driver, Run};
use super::hands::{Job, Realm, RunKey, TreeWork};
use super::records::{self, StoredRecord};
use base::{InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use supervisor::{Adopted, Input, Pid, ServiceSpec};
use sys::tree::Tree;

/// A run that may go on, found and verified.
pub(crate) struct Prepared {
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) tree: Arc<Mutex<Tree>>,
    pub(crate) group: Option<PathBuf>,
    pub(crate) since: Now,
}

/// Processes by the instance and run that their token names.
type Tokens = BTreeMap<(InstanceId, RunId), Vec<u32>>;

/// What is left of earlier daemons.
pub(crate) struct Remains {
    records: Vec<StoredRecord>,
    tokens: Tokens,
}

impl Remains {
    /// Looks. Reads all of /proc once.
    pub(crate) fn find(
        paths: &crate::paths::Paths,
        state_id: &str,
        boot_id: &str,
    ) -> (Self, Vec<String>) {
        let (records, mut complaints) = records::read_all(&paths.records());
        let (records, stale): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.boot_id == boot_id);
        if !stale.is_empty() {
            complaints.push(format!(
                "{} run records are of an earlier boot of this machine and say nothing about now: \
                 ignored",
                stale.len()
            ));
        }
        for record in stale {
            if let Ok(instance) = record.instance.parse() {
                let _ = records::remove(&paths.record(&instance));
            }
        }
        let prefix = format!("{state_id}/");
        let mut tokens = Tokens::new();
        for (pid, token) in sys::tree::find_by_token_prefix(&prefix) {
            let Some((instance, run)) = token[prefix.len()..].rsplit_once('/') else { continue };
            // Duties have an `@` in their token, which is no instance's name.
            if let (Ok(instance), Ok(run)) = (instance.parse(), run.parse()) {
                tokens.entry((instance, RunId(run))).or_default().push(pid);
            }
        }
        (Self { records, tokens }, complaints)
    }

    /// The highest run number ever used here.
    pub(crate) fn last_run(&self) -> u64 {
        let recorded = self.records.iter().map(|record| record.to_core().run.0);
        recorded.chain(self.tokens.keys().map(|(_, run)| run.0)).max().unwrap_or(0)
    }
}

impl Driver {
    /// Tells the core of everything that an earlier daemon left, and cleans up what belongs to
    /// nobody any more. Returns how many runs go on.
    pub(crate) fn adopt(&mut self, remains: Remains) -> usize {
        let Remains { records, mut tokens } = remains;
        let mut adopted = 0;
        for record in records {
            let Ok(instance) = record.instance.parse::<InstanceId>() else { continue };
            let core = record.to_core();
            let marked = tokens.remove(&(instance.clone(), core.run)).unwrap_or_default();
            let spec = self.config.services.get(&instance.service).cloned();
            match spec.filter(|spec| spec.instance_ids().any(|known| known == instance)) {
                Some(spec) => {
                    adopted += usize::from(self.adopt_one(instance, &spec, &record, &marked));
                }
                None => {
                    let record_path = self.paths.record(&instance);
                    let why = "it is no longer in the configuration";
                    self.clean_up(&instance, core.run, marked, why);
                    let group = self.cgroups.open(&instance.to_string());
                    let job = Job::Forget { record: record_path, group };
                    self.hands.give(&instance, job);
                }
            }
        }
        for ((instance, run), pids) in tokens {
            self.clean_up(&instance, run, pids, "no record names its run");
        }
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
        let name = instance.to_string();
        // The group lies where the daemon was that made it, which need not be where this one is.
        let group = match &main {
            Some((pid, _)) => self.cgroups.open_of_process(&name, *pid),
            None => None,
        };
        let tree = Tree {
            group: group.or_else(|| self.cgroups.open(&name)),
            token: self.token(&instance, core.run),
            known: main.iter().map(|(pid, _)| *pid).chain(marked.iter().copied()).collect(),
        };
        let group = tree.group.as_ref().map(|group| group.path().to_path_buf());
        let tree = Arc::new(Mutex::new(tree));
        let since = Now::from_nanos(record.since_ns);
        let (alive, pidfd) = match main {
            Some((pid, pidfd)) => (Some(Pid(pid)), Some(pidfd)),
            None => (None, None),
        };
        if alive.is_some() {
            let prepared = Prepared { pidfd, tree, group, since };
            self.prepared.insert(instance.clone(), prepared);
        } else {
            // Its end was not seen. What it may have left behind is looked for by the core.
            let run = Run {
                run: core.run,
                spec: Arc::clone(spec),
                main: None,
                tree: Some(tree),
                group,
                oom_kills: None,
                since,
                tasks: Vec::new(),
                claim: None,
            };
            self.services.runs.insert(instance.clone(), run);
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

    /// Kills what is left of a run that belongs to nobody any more.
    fn clean_up(&mut self, instance: &InstanceId, run: RunId, pids: Vec<u32>, why: &str) {
        let group = self.cgroups.open(&instance.to_string());
        let wanted =
            self.services.runs.contains_key(instance) || self.prepared.contains_key(instance);
        let tree = Tree {
            // A live run of the same instance has the same group: then only the token tells.
            group: if wanted { None } else { group },
            token: self.token(instance, run),
            known: pids,
        };
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
        let key = RunKey { realm: Realm::Services, instance: instance.clone(), run };
        let tree = Arc::new(Mutex::new(tree));
        self.hands.give(instance, Job::Tree { key, tree, work: TreeWork::Kill });
    }
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
