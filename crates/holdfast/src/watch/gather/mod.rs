//! Gathers what can be known of a sick run before it is touched (H15), within a budget.
//!
//! ```text
//! sample, pages of /proc (they disturb nothing) ──► log tail ──► stacks by a tool ──► core file
//! ```
//! What is quick, certain and harmless comes first; tools that hold the process up, and may hang
//! with it, come last and get what is left of the time. What is not there by the deadline is said
//! in the index, with the reason.
//! Invariants: it ends at the deadline, whatever hangs; it writes nothing outside the bundle.

mod bundle;
mod core;
mod stacks;
mod tool;

use super::facts::{self, History};
use super::protocol::RunFacts;
use base::{InstanceId, WallTime};
use bundle::Bundle;
use control::{EVIDENCE_VERSION, EvidenceIndex, VerdictView};
use journal::evidence::{BundleId, Evidence};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{EvidencePolicy, StackTool};
use sys::inspect::{self, Page, Room};
use sys::sample::{RunSample, Sampler, Wants};

/// Bytes of each page.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Processes that are looked at closely.
const PROCESSES_MAX: usize = 64;

/// Lines of its output that are kept, and bytes of them.
const LOG_LINES: usize = 500;
const LOG_BYTES_MAX: usize = 256 * 1024;

/// What is kept back of the budget, to give the bundle its name in time.
const LAST_STEPS: Duration = Duration::from_millis(50);

/// A core file may take this share, one in so many, of what a service's bundles may have together.
const CORE_SHARE_ONE_IN: u64 = 2;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) facts: RunFacts,
    pub(super) instance: InstanceId,
    pub(super) cause: String,
    /// What was allowed, and what is left of it.
    pub(super) budget: Duration,
    pub(super) left: Duration,
    pub(super) policy: EvidencePolicy,
    /// Its output.
    pub(super) log: PathBuf,
    /// What was seen of it before.
    pub(super) history: History,
    pub(super) mode: String,
    pub(super) dependencies: BTreeMap<String, String>,
    pub(super) pressure: Option<String>,
    pub(super) node: String,
    pub(super) evidence: Evidence,
    /// To whom orphans come: the root.
    pub(super) adopter: u32,
}

/// What has come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gathered {
    pub(super) bundle: BundleId,
    pub(super) complete: bool,
    /// What is missing, for a notice.
    pub(super) missing: Vec<String>,
}

/// Gathers. Blocks for the budget at most; an error: there is no bundle at all.
pub(super) fn gather(question: &Question) -> Result<Gathered, String> {
    let began = Instant::now();
    let work = Work {
        question,
        until: sys::clock::now() + question.left.saturating_sub(LAST_STEPS),
        deadline: began + question.left.saturating_sub(LAST_STEPS),
    };
    let wall = sys::clock::wall();
    let id = id_of(wall, question.facts.run);
    let id = BundleId::new(&question.instance.to_string(), &id)
        .ok_or_else(|| format!("`{id}` is no name for a bundle"))?;
    // Room is made first, so that a small disk holds the newest evidence and not the oldest.
    make_room(question, question.policy.keep.saturating_sub(1));
    let mut bundle = Bundle::begin(&question.evidence, &id, work.index(&id, wall))
        .map_err(|error| format!("cannot write evidence of {}: {error}", question.instance))?;
    work.fill(&mut bundle);
    bundle.index.took_ms = super::protocol::millis(began.elapsed());
    let index = bundle
        .finish()
        .map_err(|error| format!("cannot finish the evidence of {}: {error}", question.instance))?;
    make_room(question, question.policy.keep);
    let missing = index.missing.iter().map(|it| format!("{}: {}", it.name, it.why)).collect();
    Ok(Gathered { bundle: id, complete: index.complete, missing })
}

/// A failure shows as a full disk, or in the list; it is no reason not to gather.
fn make_room(question: &Question, keep: u32) {
    let (service, policy) = (&question.instance.service, &question.policy);
    let removed = question.evidence.prune(service, keep as usize, policy.size_max.0);
    if let Err(error) = removed {
        tracing::warn!(service = %service, %error, "old evidence can't be removed");
    }
}

/// `20261124T102233.123Z-17`.
fn id_of(at: WallTime, run: u64) -> String {
    let stamp = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or_default();
    let millis = stamp.subsec_millisecond().unsigned_abs();
    format!("{}.{millis:03}Z-{run}", stamp.strftime("%Y%m%dT%H%M%S"))
}

type Look = fn(&[u32], &Room) -> Page;

/// The pages, in the order of their worth.
const PAGES: [(&str, &str, Look); 8] = [
    ("threads.txt", "its threads: state, where they wait, CPU time", inspect::threads),
    ("stacks-kernel.txt", "where its threads are in the kernel", inspect::kernel_stacks),
    ("sockets.txt", "its sockets and their queues", inspect::sockets),
    ("fds.txt", "what it has open, counted by kind", inspect::descriptors),
    ("limits.txt", "its resource limits", inspect::limits),
    ("process.txt", "command line, program and status of its processes", inspect::processes),
    ("environ.txt", "its environment, without secrets", inspect::environment),
    ("maps.txt", "its memory, added up by what is mapped", inspect::maps),
];

struct Work<'a> {
    question: &'a Question,
    until: base::Now,
    deadline: Instant,
}

impl Work<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn index(&self, id: &BundleId, wall: WallTime) -> EvidenceIndex {
        let question = self.question;
        let since = base::Now::from_nanos(question.facts.since_ns);
        EvidenceIndex {
            version: EVIDENCE_VERSION,
            id: id.id().to_owned(),
            instance: id.instance().to_owned(),
            node: question.node.clone(),
            run: question.facts.run,
            pid: question.facts.main,
            cause: question.cause.clone(),
            begun_us: wall.as_micros(),
            budget_ms: super::protocol::millis(question.budget),
            uptime_ms: super::protocol::millis(sys::clock::now().since(since)),
            mode: question.mode.clone(),
            verdicts: question.history.verdicts.values().map(|said| view(said, wall)).collect(),
            dependencies: question.dependencies.clone(),
            pressure: question.pressure.clone(),
            ..EvidenceIndex::default()
        }
    }

    fn fill(&self, bundle: &mut Bundle) {
        let (last, pids) = self.look(bundle);
        bundle.index.processes = u32::try_from(pids.len()).unwrap_or(u32::MAX);
        self.add_samples(bundle, last);
        let looked_at: Vec<u32> = pids.iter().copied().take(PROCESSES_MAX).collect();
        if looked_at.len() < pids.len() {
            let why = format!("only {PROCESSES_MAX} of its {} processes are in it", pids.len());
            bundle.miss("process.txt", &why, "");
        }
        bundle.index.command = command_of(&looked_at);
        for (name, about, look) in PAGES {
            self.add_page(bundle, name, about, look, &looked_at);
        }
        self.add_group(bundle);
        self.add_log(bundle);
        self.add_stacks(bundle, &looked_at);
        self.add_core(bundle);
    }

    /// A last look, and who belongs to it: the main process first.
    fn look(&self, bundle: &mut Bundle) -> (Option<RunSample>, Vec<u32>) {
        let (target, adopter) =
            (facts::target(&self.question.facts, Wants::ALL), self.question.adopter);
        let seen = inspect::within(self.left(), move || {
            let mut sampler = Sampler::new(adopter);
            sampler.watch((), target);
            let sample = sampler.look(&BTreeSet::from([()])).pop().map(|((), sample)| sample);
            (sample, sampler.processes(&()))
        });
        let (sample, mut pids) = seen.unwrap_or_else(|late| {
            bundle.miss("samples.json", &format!("a last look: {late}"), "");
            (None, self.question.facts.known.clone())
        });
        let main = self.question.facts.main;
        pids.sort_by_key(|pid| (Some(*pid) != main, *pid));
        (sample, pids)
    }

    fn add_samples(&self, bundle: &mut Bundle, last: Option<RunSample>) {
        let mut history = self.question.history.clone();
        if let Some(sample) = last {
            history.keep(sys::clock::wall(), facts::to_core(sample));
        }
        let text = serde_json::to_vec_pretty(&history.to_json()).unwrap_or_default();
        bundle.add("samples.json", "what was seen of it until now", &text);
    }

    fn add_page(&self, bundle: &mut Bundle, name: &str, about: &str, look: Look, pids: &[u32]) {
        let left = self.left();
        if left.is_zero() {
            return bundle.miss(name, "there was no time for it", "allow a larger `budget`");
        }
        let (pids, room) = (pids.to_vec(), Room { bytes_max: PAGE_BYTES_MAX, until: self.until });
        match inspect::within(left, move || look(&pids, &room)) {
            Ok(page) => {
                bundle.add(name, about, page.text.as_bytes());
                for why in page.missing {
                    bundle.miss(name, &why, "");
                }
            }
            Err(late) => bundle.miss(name, &late.to_string(), ""),
        }
    }

    fn add_group(&self, bundle: &mut Bundle) {
        let facts = self.question.facts.clone();
        let report = inspect::within(self.left(), move || {
            let own = sys::cgroup::Group::of_directories(facts.groups);
            let real = facts.main.and_then(|pid| sys::cgroup::Mounts::read().group_of(pid));
            let own_report = own.as_ref().map(sys::cgroup::Group::report).unwrap_or_default();
            // Where the processes really are may be deeper, or in hierarchies that are not ours.
            let real = real.filter(|real| Some(real) != own.as_ref());
            own_report + &real.map(|real| real.report()).unwrap_or_default()
        });
        match report {
            Ok(report) => {
                let about = "counters and limits of its control group";
                bundle.add("cgroup.txt", about, report.as_bytes());
            }
            Err(late) => bundle.miss("cgroup.txt", &late.to_string(), ""),
        }
    }

    fn add_log(&self, bundle: &mut Bundle) {
        let log = self.question.log.clone();
        let shown = log.display().to_string();
        let lines = inspect::within(self.left(), move || journal::logfile::tail(&log, LOG_LINES));
        match lines {
            Ok(Ok(lines)) => {
                bundle.add("log-tail.txt", "the end of its output", &tail(&lines));
            }
            Ok(Err(error)) => bundle.miss("log-tail.txt", &format!("{shown}: {error}"), ""),
            Err(late) => bundle.miss("log-tail.txt", &format!("{shown}: {late}"), ""),
        }
    }

    fn add_stacks(&self, bundle: &mut Bundle, pids: &[u32]) {
        let name = "stacks-user.txt";
        let taken =
            stacks::take(&self.question.policy.stacks, pids, &self.question.log, self.deadline);
        bundle.add(name, "where its threads are in the program", &taken.text);
        for (why, help) in taken.missing {
            bundle.miss(name, &why, help);
        }
        let wanted = self.question.policy.stacks != StackTool::Off;
        if wanted && taken.text.is_empty() && pids.is_empty() {
            bundle.miss(name, "no process of it is alive", "");
        }
    }

    fn add_core(&self, bundle: &mut Bundle) {
        let (policy, main) = (&self.question.policy, self.question.facts.main);
        let Some(pid) = main.filter(|_| policy.core) else { return };
        let bytes_max = policy.size_max.0 / CORE_SHARE_ONE_IN;
        match core::take(pid, &bundle.path("core"), bytes_max, self.deadline) {
            Ok(bytes) => bundle.note("core", "its memory, for gdb", bytes),
            Err((why, help)) => bundle.miss("core", &why, help),
        }
    }
}

fn tail(lines: &[String]) -> Vec<u8> {
    let mut room = LOG_BYTES_MAX;
    let fits = |line: &&String| {
        room = room.saturating_sub(line.len() + 1);
        0 < room
    };
    let kept = lines.iter().rev().take_while(fits).count();
    let mut text = Vec::new();
    for line in lines.iter().skip(lines.len() - kept) {
        text.extend_from_slice(inspect::masked(line).as_bytes());
        text.push(b'\n');
    }
    text
}

fn command_of(pids: &[u32]) -> String {
    let main = pids.first().and_then(|pid| sys::proc_fs::command_line(*pid));
    main.map(|command| inspect::masked_command(&command)).unwrap_or_default()
}

fn view(said: &super::protocol::VerdictSaid, wall: WallTime) -> VerdictView {
    let since = sys::clock::now().since(base::Now::from_nanos(said.since_ns));
    let since = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    VerdictView {
        detector: said.detector.clone(),
        kind: said.kind.clone(),
        mode: said.mode.clone(),
        state: said.state.clone(),
        message: said.message.clone(),
        since_us: wall.as_micros().saturating_sub(since),
        measured: said.measured.iter().cloned().collect(),
        exhausted_in_ms: said.exhausted_in_ms,
    }
}

/// Where the output of an instance is.
pub(super) fn log_of(
    state: &Path,
    instance: &InstanceId,
    spec: Option<&Arc<supervisor::ServiceSpec>>,
) -> PathBuf {
    let own = spec.and_then(|spec| {
        let path = spec.log.path.as_ref()?;
        Some(PathBuf::from(spec.process.render(&path.to_string_lossy(), instance)))
    });
    own.unwrap_or_else(|| state.join("logs").join(format!("{instance}.log")))
}
