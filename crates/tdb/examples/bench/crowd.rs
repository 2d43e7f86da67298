//! What many users do at once, each a thread with a handle of its own; and locks that others have.

use crate::asked::Asked;
use crate::clock::now;
use crate::keys::{Random, key};
use crate::works::update_one;
use std::error::Error;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Barrier, PoisonError, RwLock};

type Failed = Box<dyn Error + Send + Sync>;

/// Updates by many at once.
pub(crate) fn crowd(asked: &Asked) -> Result<String, Box<dyn Error>> {
    let (ready, go) = (Barrier::new(asked.users as usize + 1), RwLock::new(0));
    let all = std::thread::scope(|scope| -> Result<Vec<Used>, Failed> {
        let mut held = go.write().unwrap_or_else(PoisonError::into_inner);
        let (ready, go) = (&ready, &go);
        let start = |user| scope.spawn(move || one_of_many(asked, user, ready, go));
        let users: Vec<_> = (0..asked.users).map(start).collect();
        ready.wait();
        *held = now();
        drop(held);
        let joined = users.into_iter().map(|user| user.join().map_err(|_| "a thread panicked")?);
        joined.collect()
    })
    .map_err(|error| -> Box<dyn Error> { error })?;
    let operations: u64 = all.iter().map(|used| used.operations).sum();
    let fewest = all.iter().map(|used| used.operations).min().unwrap_or(0);
    let longest = all.iter().map(|used| used.longest).max().unwrap_or(0);
    let ns = asked.ms * 1_000_000;
    Ok(format!(
        "{{\"operations\":{operations},\"ns\":{ns},\"fewest\":{fewest},\"longest_ns\":{longest}}}"
    ))
}

/// What one of many did.
struct Used {
    operations: u64,
    longest: u64,
}

fn one_of_many(
    asked: &Asked,
    user: u64,
    ready: &Barrier,
    go: &RwLock<u64>,
) -> Result<Used, Failed> {
    let opened = asked.open();
    ready.wait();
    let began = *go.read().unwrap_or_else(PoisonError::into_inner);
    let mut database = opened?;
    let mut random = Random::new(user + 1);
    let mut used = Used { operations: 0, longest: 0 };
    let end = began + asked.ms * 1_000_000;
    let mut before = now();
    while before < end {
        update_one(&mut database, asked, &mut random).map_err(|error| error.to_string())?;
        let after = now();
        used.longest = used.longest.max(after - before);
        used.operations += 1;
        before = after;
    }
    Ok(used)
}

/// Locks that another process has: a thread that has the file open waits for them.
pub(crate) fn contend(asked: &Asked) -> Result<String, Box<dyn Error>> {
    let mut holder = Holder::start(asked)?;
    let samples = std::thread::scope(|scope| -> Result<Vec<String>, Failed> {
        let (ask, asks) = sync_channel(1);
        let (tell, told) = sync_channel(1);
        let thread = scope.spawn(move || lock_for_others(asked, &asks, &tell));
        let mut samples = Vec::new();
        for _ in 0..asked.rounds {
            holder.hold(asked.hold_ns)?;
            let wanted = now();
            let asked = ask.send(());
            let obtained = asked.is_ok() && told.recv().is_ok();
            let at = now();
            if !obtained {
                break;
            }
            ask.send(())?;
            let free_from = holder.released()?.max(wanted);
            samples.push(format!("[{},{}]", at - wanted, at.saturating_sub(free_from)));
        }
        drop(ask);
        thread.join().map_err(|_| "a thread panicked")??;
        Ok(samples)
    })
    .map_err(|error| -> Box<dyn Error> { error })?;
    Ok(format!("{{\"samples\":[{}]}}", samples.join(",")))
}

/// Takes the lock when asked, says so, and gives it back when asked again.
fn lock_for_others(
    asked: &Asked,
    asks: &Receiver<()>,
    tell: &SyncSender<()>,
) -> Result<(), Failed> {
    let mut database = asked.open()?;
    while asks.recv().is_ok() {
        let _locked = database.lock(&key(0))?;
        tell.send(())?;
        asks.recv()?;
    }
    Ok(())
}

/// A process that locks by libtdb; asked and answering by numbers of 8 bytes.
struct Holder {
    child: Child,
    ask: ChildStdin,
    answers: ChildStdout,
}

impl Holder {
    fn start(asked: &Asked) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(&asked.holder)
            .arg("hold")
            .arg(&asked.file)
            .arg(format!("mutexes={}", asked.mutexes))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take());
        let (ask, answers) = (ask.ok_or("no pipe")?, answers.ok_or("no pipe")?);
        Ok(Self { child, ask, answers })
    }

    /// Returns as soon as it has the lock.
    fn hold(&mut self, ns: u64) -> Result<(), Failed> {
        self.ask.write_all(&ns.to_ne_bytes())?;
        self.number().map(drop)
    }

    /// When it gave the lock back.
    fn released(&mut self) -> Result<u64, Failed> {
        self.number()
    }

    fn number(&mut self) -> Result<u64, Failed> {
        let mut bytes = [0; 8];
        self.answers.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It ends by itself when nobody can ask it any more; this is for one that is stuck.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
