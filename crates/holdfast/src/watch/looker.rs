//! The thread that looks at runs and at the machine: reading /proc may block, so the loop never
//! does it.
//!
//! A look that hangs (a process in a state in which the kernel can't tell about it) is given up
//! with its thread: another thread takes over all runs but the one that hung.
//! Invariants: every order to look is answered, by [`Looked`] or by [`Looker::overdue`]; at most
//! [`ABANDONED_MAX`] threads hang.

use super::facts;
use super::protocol::RunFacts;
use base::{InstanceId, Now, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervisor::watch::{HostSample, Sample};
use sys::sample::{HostReader, Sampler, Wants};
use tokio::sync::mpsc;

/// A run, by which the watcher knows it.
pub(super) type Key = (InstanceId, RunId);

/// Orders that wait for the thread. Each instance has at most one of each kind under way.
const ORDERS_MAX: usize = 65_536;

/// A round that takes longer hangs: the slowest one seen, of thousands of processes on a starving
/// machine, takes a second.
const ROUND_MAX: Duration = Duration::from_secs(15);

/// Threads that hang. Beyond it nothing is looked at any more; a person must look.
const ABANDONED_MAX: usize = 4;

const STACK_BYTES: usize = 512 * 1024;

/// What was seen.
#[derive(Debug)]
pub(super) enum Looked {
    /// Of runs, and what could not be read of each and why.
    Runs(Vec<(Key, Result<Sample, String>, Vec<&'static str>)>),
    /// Of the machine.
    Host(Result<HostSample, String>),
}

enum Order {
    Watch(Key, Box<(RunFacts, Wants)>),
    Unwatch(Key),
    Look { runs: BTreeSet<Key>, host: bool, asked: Now },
}

/// The way to the thread.
pub(super) struct Looker {
    adopter: u32,
    results: mpsc::Sender<Looked>,
    thread: Option<Hand>,
    watched: BTreeMap<Key, (RunFacts, Wants)>,
    /// Runs at which a look has hung.
    hanging: BTreeSet<Key>,
    abandoned: usize,
}

struct Hand {
    orders: SyncSender<Order>,
    /// The run that is looked at just now.
    at: Arc<Mutex<Option<Key>>>,
    /// What was asked and is not answered, and since when.
    asked: BTreeMap<Option<Key>, Now>,
}

impl Looker {
    /// Looks at nothing yet. What is seen comes over the receiver.
    pub(super) fn new(adopter: u32) -> (Self, mpsc::Receiver<Looked>) {
        let (results, seen) = mpsc::channel(64);
        let looker = Self {
            adopter,
            results,
            thread: None,
            watched: BTreeMap::new(),
            hanging: BTreeSet::new(),
            abandoned: 0,
        };
        (looker, seen)
    }

    pub(super) fn watch(&mut self, key: Key, facts: RunFacts, wants: Wants) {
        self.watched.insert(key.clone(), (facts.clone(), wants));
        if !self.hanging.contains(&key) {
            self.order(Order::Watch(key, Box::new((facts, wants))));
        }
    }

    pub(super) fn unwatch(&mut self, key: &Key) {
        self.watched.remove(key);
        self.hanging.remove(key);
        self.order(Order::Unwatch(key.clone()));
    }

    /// Looks at runs, and at the machine first if that is wanted. Gives those at which nobody can
    /// look, with the reason.
    pub(super) fn look(&mut self, mut runs: BTreeSet<Key>, host: bool) -> Vec<Looked> {
        let mut refused = Vec::new();
        for key in self.hanging.iter().filter(|key| runs.remove(*key)) {
            let why = "an earlier look at it hangs: the kernel does not tell about one of its \
                       processes (is it in uninterruptible sleep?)";
            refused.push((key.clone(), Err(why.to_owned()), Vec::new()));
        }
        let mut answers = Vec::new();
        let now = sys::clock::now();
        let order = Order::Look { runs: runs.clone(), host, asked: now };
        if self.order(order) {
            if let Some(thread) = &mut self.thread {
                let keys = runs.into_iter().map(Some);
                thread.asked.extend(keys.chain(host.then_some(None)).map(|key| (key, now)));
            }
        } else {
            let why = "nobody can look any more: too many earlier looks hang";
            refused.extend(runs.into_iter().map(|key| (key, Err(why.to_owned()), Vec::new())));
            if host {
                answers.push(Looked::Host(Err(why.to_owned())));
            }
        }
        if !refused.is_empty() {
            answers.push(Looked::Runs(refused));
        }
        answers
    }

    /// An answer has come: it is awaited no longer.
    pub(super) fn answered(&mut self, looked: &Looked) {
        let Some(thread) = &mut self.thread else { return };
        match looked {
            Looked::Host(_) => drop(thread.asked.remove(&None)),
            Looked::Runs(runs) => {
                for (key, ..) in runs {
                    thread.asked.remove(&Some(key.clone()));
                }
            }
        }
    }

    /// When [`Self::overdue`] is to be asked.
    pub(super) fn next_wake(&self) -> Option<Now> {
        let asked = self.thread.as_ref()?.asked.values().min()?;
        Some(*asked + ROUND_MAX)
    }

    /// Gives up a thread that hangs. Gives the answers that it owes, and a sentence about it.
    pub(super) fn overdue(&mut self, now: Now) -> Option<(Vec<Looked>, String)> {
        let due = self.next_wake().filter(|wake| *wake <= now);
        let thread = due.and_then(|_| self.thread.take())?;
        self.abandoned += 1;
        let culprit = thread.at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = culprit.as_ref().map_or("the machine".to_owned(), |key| key.0.to_string());
        self.hanging.extend(culprit);
        let why = format!("a look at {name} has not ended within {ROUND_MAX:?}");
        let runs =
            thread.asked.keys().flatten().map(|key| (key.clone(), Err(why.clone()), Vec::new()));
        let mut answers = vec![Looked::Runs(runs.collect())];
        if thread.asked.contains_key(&None) {
            answers.push(Looked::Host(Err(why.clone())));
        }
        let all = self.watched.clone();
        for (key, (facts, wants)) in all {
            if !self.hanging.contains(&key) {
                self.order(Order::Watch(key, Box::new((facts, wants))));
            }
        }
        Some((answers, format!("{why}: it is given up, and not looked at any more")))
    }

    /// `false`: there is nobody to take it.
    fn order(&mut self, order: Order) -> bool {
        if self.thread.is_none() && self.abandoned < ABANDONED_MAX {
            self.thread = self.start();
        }
        let Some(thread) = &self.thread else { return false };
        match thread.orders.try_send(order) {
            // So far behind that it must hang, it is given up soon.
            Ok(()) | Err(TrySendError::Full(_)) => true,
            Err(TrySendError::Disconnected(_)) => {
                self.thread = None;
                false
            }
        }
    }

    fn start(&self) -> Option<Hand> {
        let (orders, waiting) = sync_channel(ORDERS_MAX);
        let at = Arc::new(Mutex::new(None));
        let (results, own_at, adopter) = (self.results.clone(), Arc::clone(&at), self.adopter);
        let started = std::thread::Builder::new()
            .name("looker".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&waiting, &results, &own_at, adopter));
        started.ok().map(|_| Hand { orders, at, asked: BTreeMap::new() })
    }
}

fn work(
    orders: &Receiver<Order>,
    results: &mpsc::Sender<Looked>,
    at: &Mutex<Option<Key>>,
    adopter: u32,
) {
    let mut sampler = Sampler::new(adopter);
    let mut host = None;
    while let Ok(order) = orders.recv() {
        let looked = match order {
            Order::Watch(key, run) => {
                sampler.watch(key, facts::target(&run.0, run.1));
                continue;
            }
            Order::Unwatch(key) => {
                sampler.unwatch(&key);
                continue;
            }
            Order::Look { runs, host: wanted, asked } => {
                if wanted && send(results, at, look_at_host(&mut host, asked)).is_err() {
                    return;
                }
                if runs.is_empty() {
                    continue;
                }
                look_at_runs(&mut sampler, runs, at)
            }
        };
        if send(results, at, looked).is_err() {
            return;
        }
    }
}

/// While the loop does not take it, nobody is looked at.
fn send(results: &mpsc::Sender<Looked>, at: &Mutex<Option<Key>>, looked: Looked) -> Result<(), ()> {
    *at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    results.blocking_send(looked).map_err(drop)
}

fn look_at_host(reader: &mut Option<HostReader>, asked: Now) -> Looked {
    let late = sys::clock::now().since(asked);
    if reader.is_none() {
        *reader = HostReader::open().ok();
    }
    let seen = reader.as_mut().map(HostReader::look);
    Looked::Host(match seen {
        Some(Ok(sample)) => Ok(facts::host_to_core(&sample, late)),
        Some(Err(error)) => Err(format!("the machine can't be looked at: {error}")),
        None => Err("the machine can't be looked at: there is no /proc".to_owned()),
    })
}

fn look_at_runs(
    sampler: &mut Sampler<Key>,
    runs: BTreeSet<Key>,
    at: &Mutex<Option<Key>>,
) -> Looked {
    let next = |key: &Key| {
        *at.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
    };
    let seen = sampler.look_at_each(&runs, next);
    let mut left = runs;
    let mut all: Vec<_> = seen
        .into_iter()
        .map(|(key, sample)| {
            left.remove(&key);
            let cannot_tell = sample.cannot_tell.clone();
            (key, Ok(facts::to_core(sample)), cannot_tell)
        })
        .collect();
    all.extend(left.into_iter().map(|key| (key, Err("it is not watched".to_owned()), Vec::new())));
    Looked::Runs(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (name.parse().unwrap(), RunId(1))
    }

    fn own() -> RunFacts {
        let pid = std::process::id();
        RunFacts { known: vec![pid], main: Some(pid), ..RunFacts::default() }
    }

    #[test]
    fn h4_each_order_is_answered_in_one_round() {
        let (mut looker, mut seen) = Looker::new(std::process::id());
        looker.watch(key("web"), own(), Wants::ALL);
        let asked = BTreeSet::from([key("web"), key("stranger")]);
        assert!(looker.look(asked, true).is_empty());
        assert!(looker.next_wake().is_some());
        let host = seen.blocking_recv().unwrap();
        assert!(matches!(&host, Looked::Host(Ok(sample)) if 0 < sample.memory_total), "{host:?}");
        let runs = seen.blocking_recv().unwrap();
        let Looked::Runs(answers) = &runs else { panic!("{runs:?}") };
        let of = |name: &str| answers.iter().find(|(known, ..)| *known == key(name)).unwrap();
        assert_eq!(of("web").1.as_ref().unwrap().processes, 1);
        assert!(of("stranger").1.is_err());
        looker.answered(&host);
        looker.answered(&runs);
        assert_eq!(looker.next_wake(), None);
    }

    #[test]
    fn a_look_that_hangs_costs_its_run_and_no_other() {
        let (mut looker, mut seen) = Looker::new(std::process::id());
        looker.watch(key("web"), own(), Wants::default());
        looker.watch(key("sick"), own(), Wants::default());
        looker.look(BTreeSet::from([key("web"), key("sick")]), true);
        // As if it had hung at this one.
        while looker
            .thread
            .as_ref()
            .is_some_and(|thread| thread.asked.len() == 3 && seen.try_recv().is_err())
        {
            std::thread::yield_now();
        }
        let hand = looker.thread.as_mut().unwrap();
        *hand.at.lock().unwrap() = Some(key("sick"));
        let at = sys::clock::now() + ROUND_MAX;
        let (answers, why) = looker.overdue(at).unwrap();
        assert!(why.contains("a look at sick has not ended"), "{why}");
        let owed: usize = answers
            .iter()
            .map(|looked| match looked {
                Looked::Runs(runs) => runs.len(),
                Looked::Host(_) => 1,
            })
            .sum();
        assert_eq!(owed, 3);
        let (mut looker, mut seen) = (looker, {
            while seen.try_recv().is_ok() {}
            seen
        });
        let refused = looker.look(BTreeSet::from([key("web"), key("sick")]), false);
        let is_sick = |looked: &Looked| matches!(looked, Looked::Runs(runs) if runs[0].0 == key("sick") && runs[0].1.is_err());
        assert!(refused.len() == 1 && is_sick(&refused[0]), "{refused:?}");
        let found = std::iter::from_fn(|| seen.blocking_recv()).find_map(|looked| match looked {
            Looked::Runs(runs) if runs.len() == 1 => Some(runs[0].0.clone()),
            _ => None,
        });
        assert_eq!(found, Some(key("web")));
    }
}
