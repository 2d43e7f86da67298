//! What is to be seen, in the words of the wire: made on demand from the core's snapshot.

use super::driver::{Driver, RealmState};
use base::{InstanceId, Now, WallTime};
use control::{DutyView, InstanceView, ServiceView, Snapshot, WhyLink, WhyView};
use std::collections::BTreeMap;
use std::path::PathBuf;
use supervisor::{Exit, InstanceSnapshot, Phase, ServiceSpec, Wish};

impl Driver {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let clock = Clock::read();
        let mut by_service: BTreeMap<_, Vec<InstanceSnapshot>> = BTreeMap::new();
        for seen in self.services.core.snapshot() {
            by_service.entry(seen.instance.service.clone()).or_default().push(seen);
        }
        let services = by_service
            .into_iter()
            .map(|(name, seen)| {
                // A service that is gone from the configuration is shown until it is down.
                let live =
                    seen.iter().find_map(|one| self.services.runs.present(&one.instance, one.run));
                let spec = self.config.services.get(&name).or(live.map(|run| &run.spec));
                let mut view = spec.map_or_else(ServiceView::default, |spec| service_view(spec));
                view.name = name.to_string();
                view.instances = seen
                    .iter()
                    .map(|one| self.instance_view(one, spec.map(|spec| &**spec), &clock))
                    .collect();
                view
            })
            .collect();
        Snapshot {
            node: self.config.daemon.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            boot_id: self.boot_id.clone(),
            started_us: self.started.as_micros(),
            taken_us: clock.wall.as_micros(),
            state_dir: self.paths.state.to_string_lossy().into_owned(),
            console: self.console_address(),
            services,
            duties: duty_views(&self.duty_realm),
            notices: self.notices.values().cloned().collect(),
            events_lost: self.events.lost(),
            shutting_down: self.ending.is_some(),
        }
    }

    fn console_address(&self) -> Option<String> {
        let listening = self.duties.listeners.contains_key("http");
        let address = self.config.console.listen.filter(|_| listening)?;
        Some(format!("http://{address}"))
    }

    fn instance_view(
        &self,
        seen: &InstanceSnapshot,
        spec: Option<&ServiceSpec>,
        clock: &Clock,
    ) -> InstanceView {
        let run = self.services.runs.present(&seen.instance, seen.run);
        let alive_since = seen.ready_since.or(seen.spawned);
        InstanceView {
            name: seen.instance.to_string(),
            state: seen.phase.as_str().to_owned(),
            wish: wish_word(&seen.wish).to_owned(),
            pid: seen.pid.map(|pid| pid.0),
            run: seen.run.map(|run| run.0),
            since_us: clock.wall_of(seen.since).as_micros(),
            uptime_ms: alive_since
                .filter(|_| seen.pid.is_some())
                .map(|since| clock.now.since(since).as_millis() as u64),
            restarts: seen.restarts,
            status_text: seen.status_text.clone(),
            last_exit: seen.last_exit.map(exit_in_words),
            next_ms: seen.next.map(|next| clock.now.until(next).as_millis() as u64),
            because: links(&seen.because),
            port: spec.and_then(|spec| {
                let slot = seen.runs.first().map_or(0, |run| run.slot);
                spec.port_at(&seen.instance, slot)
            }),
            cgroup: run
                .and_then(|run| run.group.as_ref())
                .map(|group| group.path().to_string_lossy().into_owned()),
            log: spec.map_or_else(String::new, |spec| {
                self.log_path(&seen.instance, spec).to_string_lossy().into_owned()
            }),
            health: super::health::view(
                seen,
                spec,
                self.care.workaround(&seen.instance.to_string()),
                clock,
            ),
            runs: super::health::runs(seen, spec),
        }
    }

    /// Where an instance's output is kept.
    pub(crate) fn log_path(&self, instance: &InstanceId, spec: &ServiceSpec) -> PathBuf {
        self.paths.log(instance, spec)
    }

    /// The causal chain of a subject; the log to quote from, if its root cause ended badly.
    pub(crate) fn why(&self, subject: &str) -> Option<(WhyView, Option<PathBuf>)> {
        if subject == "holdfast" {
            return Some((self.why_holdfast(), None));
        }
        let instance = self.resolve(subject).ok()?.into_iter().next()?;
        let worst = self.resolve(subject).ok()?.into_iter().find(|instance| {
            let seen = self.services.core.why(instance);
            seen.is_some_and(|seen| seen.phase != Phase::Running)
        });
        let instance = worst.unwrap_or(instance);
        let seen = self.services.core.why(&instance)?;
        let root = seen.because.last().map_or(&instance, |(root, _)| root);
        let root_seen = self.services.core.why(root);
        let ended_badly = root_seen.as_ref().is_some_and(|seen| {
            matches!(seen.phase, Phase::Backoff | Phase::Failed | Phase::Starting)
        });
        let log = self
            .config
            .services
            .get(&root.service)
            .filter(|_| ended_badly)
            .map(|spec| self.log_path(root, spec));
        let root_phase = root_seen.map_or(seen.phase, |seen| seen.phase);
        let view = WhyView {
            subject: instance.to_string(),
            state: seen.phase.as_str().to_owned(),
            chain: links(&seen.because),
            last_output: Vec::new(),
            help: help(root, root_phase),
        };
        Some((view, log))
    }

    fn why_holdfast(&self) -> WhyView {
        let link = |message: String| WhyLink { subject: "holdfast".into(), message };
        let mut chain: Vec<_> =
            self.notices.values().map(|notice| link(notice.message.clone())).collect();
        for duty in duty_views(&self.duty_realm).iter().filter(|duty| duty.state != "running") {
            chain.push(WhyLink {
                subject: format!("duty/{}", duty.name),
                message: format!("{} is {}: {}", duty.name, duty.state, duty.reason),
            });
        }
        if chain.is_empty() {
            chain.push(link("holdfast runs, and all its parts do".into()));
        }
        let help = self.notices.values().map(|notice| notice.help.clone());
        WhyView {
            subject: "holdfast".into(),
            state: if self.ending.is_some() { "stopping" } else { "running" }.into(),
            chain,
            last_output: Vec::new(),
            help: help.filter(|help| !help.is_empty()).collect(),
        }
    }
}

fn service_view(spec: &ServiceSpec) -> ServiceView {
    let names = |set: &std::collections::BTreeSet<base::ServiceName>| {
        set.iter().map(ToString::to_string).collect()
    };
    ServiceView {
        name: spec.name.to_string(),
        description: spec.description.clone(),
        after: names(&spec.after),
        requires: names(&spec.requires),
        wants: names(&spec.wants),
        command: spec.process.argv.clone(),
        can_reload: spec.reload.is_some(),
        instances: Vec::new(),
    }
}

fn duty_views(realm: &RealmState) -> Vec<DutyView> {
    let seen = realm.core.snapshot().into_iter();
    seen.map(|seen| DutyView {
        name: seen.instance.to_string(),
        state: seen.phase.as_str().to_owned(),
        pid: seen.pid.map(|pid| pid.0),
        restarts: seen.restarts,
        reason: seen.because.first().map_or_else(String::new, |(_, why)| why.clone()),
    })
    .collect()
}

fn links(because: &[(InstanceId, String)]) -> Vec<WhyLink> {
    because
        .iter()
        .map(|(instance, message)| WhyLink {
            subject: instance.to_string(),
            message: message.clone(),
        })
        .collect()
}

fn wish_word(wish: &Wish) -> &'static str {
    match wish {
        Wish::Up => "up",
        Wish::Down => "down",
        Wish::Failed(_) => "failed",
        Wish::Finished => "finished",
    }
}

/// How a process ended, in words.
pub(crate) fn exit_in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => {
            let name = sys::process::signal_name(signal);
            format!("signal {signal} ({})", name.strip_prefix("SIG").unwrap_or(name))
        }
        Exit::Unknown => "unknown (it was not our child)".to_owned(),
    }
}

/// What a person could do about it.
fn help(root: &InstanceId, phase: Phase) -> Vec<String> {
    match phase {
        Phase::Failed => vec![
            format!("see its output: holdfast logs {root}"),
            format!("when the cause is mended: holdfast service start {root}"),
        ],
        Phase::Backoff | Phase::Starting => vec![format!("see its output: holdfast logs {root}")],
        Phase::Stopped | Phase::Finished => {
            vec![format!("start it: holdfast service start {root}")]
        }
        Phase::Stopping => vec![format!("see what is still alive: holdfast status {root}")],
        Phase::Waiting | Phase::Running => Vec::new(),
    }
}

/// Both clocks at one moment, to show monotonic times as wall times.
pub(super) struct Clock {
    pub(super) now: Now,
    wall: WallTime,
}

impl Clock {
    fn read() -> Self {
        Self { now: sys::clock::now(), wall: sys::clock::wall() }
    }

    pub(super) fn wall_of(&self, then: Now) -> WallTime {
        let micros =
            |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let (ago, ahead) = (micros(self.now.since(then)), micros(then.since(self.now)));
        WallTime::from_micros(self.wall.as_micros().saturating_sub(ago).saturating_add(ahead))
    }
}
