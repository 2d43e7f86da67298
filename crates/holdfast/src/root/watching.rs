//! The root's end of the link to the watch duty: who is watched, and what is asked of the duty.
//!
//! Watching is a state: a new duty, and one whose configuration has changed, is told everything
//! again. The duty runs only while a service is to be watched (H24).
//! Invariant: each question of the core is answered, by the duty or for it: at once where there is
//! none, when it dies, and when its time is over.

use super::driver::{Driver, Happening};
use super::hands::{Realm, RunKey};
use crate::watch::protocol::{FromWatch, RunFacts, ToWatch, dependency_state, millis};
use base::{InstanceId, Now, RunId};
use control::{decode_frame, encode_frame};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::{Input, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Orders that wait for the duty. All runs at once fit: 10,000 services.
const ORDERS_MAX: usize = 65_536;

/// How much longer than its budget gathering may take before the core is told that it failed.
const GATHER_MARGIN: Duration = Duration::from_secs(1);

/// Connections are counted within this, or they can't be told.
const COUNT_MAX: Duration = Duration::from_secs(3);

/// Everything about the watch duty that outlives it.
#[derive(Default)]
pub(crate) struct WatchDesk {
    orders: Option<mpsc::Sender<ToWatch>>,
    /// Runs that the core wants watched.
    runs: BTreeMap<RunKey, WatchedRun>,
    /// Questions of the core, and when they are answered for the duty.
    asked: BTreeMap<(RunKey, Asked), Now>,
    /// Some service is to be watched, as far as the configuration and the core say.
    pub(super) wanted: bool,
}

struct WatchedRun {
    mode: Mode,
    ready_at: Now,
}

/// What the core can ask about a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Asked {
    Evidence,
    Connections,
}

impl WatchDesk {
    /// `false`: nobody hears it.
    fn order(&mut self, order: ToWatch) -> bool {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok());
        if !sent {
            // The link is dead or hopelessly behind: the next one begins with everything.
            self.orders = None;
        }
        sent
    }

    /// When a question is overdue.
    pub(crate) fn next_wake(&self) -> Option<Now> {
        self.asked.values().min().copied()
    }
}

impl Driver {
    /// The duty is wanted, or no longer: the realm of duties learns of it.
    pub(crate) fn want_watch(&mut self) {
        let configured = |config: &config::Config| {
            config.services.values().any(|spec| spec.tolerance.mode != Mode::Off)
        };
        let wanted = configured(&self.config) || !self.duties.watch.runs.is_empty();
        if wanted != self.duties.watch.wanted {
            self.duties.watch.wanted = wanted;
            let duties = self.duties.specs(&self.config);
            self.pending.push_back((Realm::Duties, Input::Configure(duties)));
        }
    }

    /// The effective configuration was written anew.
    pub(crate) fn watch_configured(&mut self) {
        self.duties.watch.order(ToWatch::Configured);
    }

    /// The core wants a run watched, or watched differently.
    pub(super) fn watch_run(&mut self, key: RunKey, mode: Mode) {
        let seen = self.services.core.why(&key.instance).filter(|seen| seen.run == Some(key.run));
        let ready = seen.and_then(|seen| seen.ready_since).unwrap_or_else(sys::clock::now);
        let runs = &mut self.duties.watch.runs;
        let run = runs.entry(key.clone()).or_insert(WatchedRun { mode, ready_at: ready });
        run.mode = mode;
        self.want_watch();
        self.tell_watch(&key);
    }

    pub(super) fn unwatch_run(&mut self, key: &RunKey) {
        if self.duties.watch.runs.remove(key).is_some() {
            let (instance, run) = (key.instance.to_string(), key.run.0);
            self.duties.watch.order(ToWatch::Unwatch { instance, run });
        }
    }

    /// A run says how far it has counted.
    pub(super) fn watch_counted(&mut self, key: &RunKey, value: u64) {
        if self.duties.watch.runs.contains_key(key) {
            let (instance, run) = (key.instance.to_string(), key.run.0);
            self.duties.watch.order(ToWatch::Counter { instance, run, value });
        }
    }

    /// Tells the duty how a run stands now, if it is watched.
    pub(crate) fn tell_watch(&mut self, key: &RunKey) {
        if let Some(order) = self.watch_order(key) {
            self.duties.watch.order(order);
        }
    }

    fn watch_order(&self, key: &RunKey) -> Option<ToWatch> {
        let run = self.duties.watch.runs.get(key)?;
        let age_ms = millis(sys::clock::now().since(run.ready_at));
        Some(ToWatch::Watch { facts: self.facts(key)?, mode: run.mode.as_str().to_owned(), age_ms })
    }

    fn facts(&self, key: &RunKey) -> Option<RunFacts> {
        let run = self.services.runs.get(key)?;
        let main = run.main.as_ref().map(|(pid, _)| pid.0);
        let groups = run.group.as_ref().map(sys::cgroup::Group::directories);
        Some(RunFacts {
            instance: key.instance.to_string(),
            run: key.run.0,
            main,
            known: run.known.clone(),
            groups: groups.unwrap_or_default(),
            token: self.token(&key.instance, key.run),
            port: run.spec.port_at(&key.instance, run.slot),
            since_ns: run.since.as_nanos(),
        })
    }

    /// The core wants evidence of a run.
    pub(super) fn gather(&mut self, key: RunKey, cause: String, budget: Duration) {
        let deadline = sys::clock::now() + budget + GATHER_MARGIN;
        let budget_ms = millis(budget);
        self.ask_watch(key, Asked::Evidence, deadline, |facts| ToWatch::Gather {
            facts,
            cause,
            budget_ms,
        });
    }

    /// The core wants to know how many connections a run has.
    pub(super) fn count_connections(&mut self, key: RunKey) {
        let deadline = sys::clock::now() + COUNT_MAX;
        self.ask_watch(key, Asked::Connections, deadline, |facts| ToWatch::CountConnections {
            facts,
        });
    }

    fn ask_watch(
        &mut self,
        key: RunKey,
        what: Asked,
        deadline: Now,
        order: impl FnOnce(RunFacts) -> ToWatch,
    ) {
        let facts = self.facts(&key);
        if facts.is_some_and(|facts| self.duties.watch.order(order(facts))) {
            self.duties.watch.asked.insert((key, what), deadline);
        } else {
            self.pending.push_back(answer_for(key, what, "no watch duty runs"));
        }
    }

    /// Answers questions whose time is over.
    pub(crate) fn answer_overdue(&mut self, now: Now) {
        let asked = &mut self.duties.watch.asked;
        let overdue: Vec<_> = asked.extract_if(.., |_, deadline| *deadline <= now).collect();
        for ((key, what), _) in overdue {
            let (realm, input) = answer_for(key, what, "the watch duty did not answer in time");
            self.tell(realm, input);
        }
    }

    /// The link to the watch duty has ended, and with it the duty.
    pub(crate) fn watch_unlinked(&mut self) {
        if self.duties.watch.orders.as_ref().is_some_and(|orders| !orders.is_closed()) {
            // A later duty is linked already.
            return;
        }
        self.duties.watch.orders = None;
        self.answer_for_the_dead();
        self.tell_pending();
    }

    /// Whoever was asked so far will not answer any more.
    fn answer_for_the_dead(&mut self) {
        let asked = std::mem::take(&mut self.duties.watch.asked);
        let answer = |((key, what), _)| answer_for(key, what, "the watch duty has died");
        self.pending.extend(asked.into_iter().map(answer));
    }

    /// A new duty: it is told everything.
    pub(super) fn link_watch(&mut self, stream: UnixStream) {
        // That the one before is gone may be heard of later than this.
        self.answer_for_the_dead();
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        for key in self.duties.watch.runs.keys() {
            if let Some(order) = self.watch_order(key) {
                let _ = orders.try_send(order);
            }
        }
        self.duties.watch.orders = Some(orders);
        let happenings = self.happenings.clone();
        self.tasks.spawn(async move {
            if let Err(error) = talk(stream, waiting, &happenings).await {
                tracing::debug!(error = %format!("{error:#}"), "the link to the watch duty ended");
            }
            let _ = happenings.send(Happening::WatchUnlinked).await;
        });
    }

    /// The watch duty said something.
    pub(crate) fn watch_said(&mut self, said: FromWatch) {
        match said {
            FromWatch::Verdict { instance, run, verdict } => {
                let (Ok(instance), Some(verdict)) = (instance.parse(), verdict.to_core()) else {
                    return;
                };
                let input = Input::Verdict { instance, run: RunId(run), verdict };
                self.tell(Realm::Services, input);
            }
            FromWatch::Pressure { reason } => self.tell(Realm::Services, Input::Pressure(reason)),
            FromWatch::Dependency { instance, name, state, message } => {
                let (Ok(instance), Some(state)) = (instance.parse(), dependency_state(&state))
                else {
                    return;
                };
                self.tell(Realm::Services, Input::Depends { instance, name, state, message });
            }
            FromWatch::Gathered { instance, run, result } => {
                if let Some(key) = self.answered(&instance, run, Asked::Evidence) {
                    let RunKey { realm, instance, run } = key;
                    self.tell(realm, Input::Gathered { instance, run, result });
                }
            }
            FromWatch::Connections { instance, run, open } => {
                if let Some(key) = self.answered(&instance, run, Asked::Connections) {
                    let RunKey { realm, instance, run } = key;
                    self.tell(realm, Input::Connections { instance, run, open });
                }
            }
            FromWatch::Notice { subject, message } => self.events.complain(&subject, message),
        }
    }

    /// Which run it is about; `None` if that was answered already.
    fn answered(&mut self, instance: &str, run: u64, what: Asked) -> Option<RunKey> {
        let instance: InstanceId = instance.parse().ok()?;
        let key = RunKey { realm: Realm::Services, instance, run: RunId(run) };
        self.duties.watch.asked.remove(&(key.clone(), what))?;
        Some(key)
    }
}

fn answer_for(key: RunKey, what: Asked, why: &str) -> (Realm, Input) {
    let RunKey { realm, instance, run } = key;
    let input = match what {
        Asked::Evidence => Input::Gathered { instance, run, result: Err(why.to_owned()) },
        Asked::Connections => Input::Connections { instance, run, open: None },
    };
    (realm, input)
}

async fn talk(
    stream: UnixStream,
    mut orders: mpsc::Receiver<ToWatch>,
    happenings: &mpsc::Sender<Happening>,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let write = async move {
        while let Some(order) = orders.recv().await {
            writer.write_all(&encode_frame(&order)?).await?;
        }
        anyhow::Ok(())
    };
    let read = async {
        let mut buffer = Vec::new();
        loop {
            while let Some((said, used)) = decode_frame::<FromWatch>(&buffer)? {
                buffer.drain(..used);
                happenings.send(Happening::WatchSaid(said)).await?;
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return anyhow::Ok(());
            }
        }
    };
    // Neither direction is of use without the other.
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}
