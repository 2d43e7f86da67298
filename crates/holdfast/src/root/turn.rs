//! The loop: what happens, one thing after the other.

use super::control_server::Asked;
use super::driver::{Driver, Happening};
use super::hands::{Done, Realm};
use base::Now;
use std::time::Duration;
use supervisor::{Input, ShutdownMode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Results that are dealt with before anything else is looked at again.
const BATCH_MAX: usize = 256;

/// Where things come from.
pub(crate) struct Sources {
    pub(crate) done: mpsc::Receiver<Done>,
    pub(crate) happenings: mpsc::Receiver<Happening>,
    pub(crate) asked: mpsc::Receiver<Asked>,
    pub(crate) written: watch::Receiver<u64>,
    pub(crate) signals: Signals,
    /// Pause between two words to systemd's watchdog.
    pub(crate) watchdog: Option<Duration>,
}

/// The signals that mean something to us.
pub(crate) struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Why the loop has ended.
pub(crate) enum Ended {
    /// All that was to be stopped is stopped.
    Shutdown,
    /// A new binary is to be executed.
    Upgrade,
}

/// Turns until the end.
pub(crate) async fn turn(driver: &mut Driver, sources: &mut Sources) -> Ended {
    let mut fed = sys::clock::now();
    loop {
        driver.close_idle_sockets();
        driver.hands.flush();
        if let Some(ended) = ended(driver) {
            return ended;
        }
        let feed_at = sources.watchdog.map(|pause| fed + pause);
        let settling = driver.ending.as_ref().is_some_and(|ending| ending.services_done);
        let retry = settling || 0 < driver.hands.waiting();
        let retry = retry.then(|| sys::clock::now() + RETRY_PAUSE);
        let wake = [driver.next_wake(), feed_at, retry].into_iter().flatten().min();
        tokio::select! {
            biased;
            _ = sources.signals.child.recv() => driver.reap(),
            Some(done) = sources.done.recv() => {
                driver.done(done);
                for _ in 0..BATCH_MAX {
                    let Ok(done) = sources.done.try_recv() else { break };
                    driver.done(done);
                }
            }
            Some(happening) = sources.happenings.recv() => happened(driver, happening),
            Some(asked) = sources.asked.recv() => driver.asked(asked),
            Ok(()) = sources.written.changed() => driver.events.publish(),
            _ = sources.signals.terminate.recv() => {
                driver.begin_ending(ShutdownMode::StopServices, "signal TERM");
            }
            _ = sources.signals.interrupt.recv() => {
                driver.begin_ending(ShutdownMode::StopServices, "signal INT");
            }
            _ = sources.signals.hangup.recv() => driver.reload("signal HUP", None),
            Some(_) = driver.tasks.join_next(), if !driver.tasks.is_empty() => {}
            () = sleep_until(wake) => driver.tick(),
        }
        if feed_at.is_some_and(|at| at <= sys::clock::now()) {
            fed = sys::clock::now();
            // Only the loop itself says that it is alive.
            let _ = sys::notify::send("WATCHDOG=1");
        }
    }
}

/// Pause before jobs that had to wait for a full hand are offered again, and between two looks
/// whether the last jobs are done.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

async fn sleep_until(wake: Option<Now>) {
    match wake {
        Some(wake) => tokio::time::sleep(sys::clock::now().until(wake)).await,
        None => std::future::pending().await,
    }
}

fn happened(driver: &mut Driver, happening: Happening) {
    match happening {
        Happening::Probed { key, answer } => {
            let input = Input::Probed { instance: key.instance, run: key.run, answer };
            driver.tell(key.realm, input);
        }
        Happening::Notified { key, bytes } => driver.notified(&key, &bytes),
        Happening::Gone { pid, exit } => driver.gone(pid, exit),
        Happening::Reloaded { loaded, answer } => driver.reloaded(*loaded, answer),
        Happening::LogsUnlinked { key } => driver.logs_unlinked(&key),
        Happening::LogsSaid(said) => driver.logs_said(said),
        Happening::WatchUnlinked => driver.watch_unlinked(),
        Happening::WatchSaid(said) => driver.watch_said(said),
    }
}

fn ended(driver: &mut Driver) -> Option<Ended> {
    let upgrade_at = driver.upgrade.as_ref().and_then(|upgrade| upgrade.at);
    if upgrade_at.is_some_and(|at| at <= sys::clock::now()) {
        return Some(Ended::Upgrade);
    }
    let ending = driver.ending.as_ref()?;
    let (mode, services_done, gave_up) = (ending.mode, ending.services_done, ending.gave_up);
    if !services_done {
        return None;
    }
    if mode == ShutdownMode::KeepServices || ending.duties_done {
        let idle = driver.hands.outstanding() == 0;
        return (idle || gave_up).then_some(Ended::Shutdown);
    }
    if !ending.duties_told {
        if let Some(ending) = &mut driver.ending {
            ending.duties_told = true;
        }
        driver.tell(Realm::Duties, Input::Shutdown(ShutdownMode::StopServices));
        return ended(driver);
    }
    None
}
