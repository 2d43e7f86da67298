//! Takes the demo's world down: in order if that works, by force if not, and looks whether
//! anything is left.

use super::interrupt::Interrupt;
use super::narrator::Narrator;
use super::settings::MARK;
use super::world::{LOOK_EVERY, World};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::Tone;
use crate::cli::text;
use control::Request;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long the daemon may take to stop its services in order; `stubborn` alone takes a second.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How long killed processes may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);

/// The variable that the daemon's own helper processes carry.
const DUTY_MARK: &str = "HOLDFAST_STATE_DIR";

/// SIGKILL.
const KILL: i32 = 9;

impl World {
    /// Ends everything. The failure names what had to be killed.
    pub(crate) fn clean_up(&mut self, narrator: &Narrator<'_>) -> Result<(), Failure> {
        self.interrupt.forget();
        let begun = Instant::now();
        if let Some(visitor) = &mut self.visitor {
            visitor.end();
        }
        let in_order = self.stop_in_order();
        let left = self.leftovers();
        self.kill_leftovers();
        if self.keep {
            narrator.tell(Tone::Plain, &format!("kept: {}", self.dir.display()));
        } else {
            std::fs::remove_dir_all(&self.dir).map_err(|why| {
                Failure::no(format!("cannot remove {}: {why}", self.dir.display()))
            })?;
        }
        match (in_order, left.as_slice()) {
            (Ok(()), []) => {
                let took = text::took(begun.elapsed());
                narrator.tell(
                    Tone::Plain,
                    &format!("stopped in order within {took}; nothing is left behind"),
                );
                Ok(())
            }
            (Ok(()), left) => Err(Failure::no(format!("processes were left behind: {left:?}"))),
            (Err(why), _) => Err(Failure::no(why)),
        }
    }

    /// Asks the daemon to stop, and insists if it does not.
    fn stop_in_order(&mut self) -> Result<(), String> {
        let socket = self.socket();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let asked = Client::connect(&socket)
            .and_then(|mut client| client.ask(Request::Stop { keep_services: false }));
        let ended = match asked {
            Ok(_) => wait_for_end(daemon, &mut self.interrupt),
            Err(failure) => Err(failure.message),
        };
        if ended.is_err() {
            let _ = daemon.kill();
        }
        let _ = daemon.wait();
        self.daemon = None;
        ended.map_err(|why| format!("the daemon did not stop in order: {why}"))
    }

    /// What is alive of this demo: services by their mark, our the daemon's own helpers by theirs.
    fn leftovers(&mut self) -> Vec<u32> {
        let deadline = Instant::now() + GONE_MAX;
        loop {
            let alive = self.alive();
            if alive.is_empty() || deadline < Instant::now() || self.interrupt.wait(LOOK_EVERY) {
                return alive;
            }
        }
    }

    fn alive(&self) -> Vec<u32> {
        let is_ours = |pid: &u32| {
            let names_us = |variable| {
                let value = sys::proc_fs::environ_value(*pid, variable);
                value.is_some_and(|value| Path::new(&value).starts_with(&self.dir))
            };
            names_us(MARK) || names_us(DUTY_MARK)
        };
        let all = sys::proc_fs::all_pids().into_iter();
        all.filter(|pid| is_alive(*pid)).filter(is_ours).collect()
    }

    fn kill_leftovers(&mut self) {
        let deadline = Instant::now() + GONE_MAX;
        loop {
            let alive = self.alive();
            if alive.is_empty() || deadline < Instant::now() {
                return;
            }
            for pid in alive {
                kill(pid);
            }
            self.interrupt.wait(LOOK_EVERY);
        }
    }
}

fn wait_for_end(daemon: &mut Child, interrupt: &mut Interrupt) -> Result<(), String> {
    let deadline = Instant::now() + STOP_MAX;
    while Instant::now() < deadline {
        match daemon.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{status}")),
            Ok(None) => {}
            Err(why) => return Err(why.to_string()),
        }
        if interrupt.wait(LOOK_EVERY) {
            return Err("interrupted once more".to_owned());
        }
    }
    Err(format!("not within {}", base::format_duration(STOP_MAX)))
}

/// Whether a process runs; a zombie does not.
pub(super) fn is_alive(pid: u32) -> bool {
    sys::proc_fs::stat(pid).is_ok_and(|stat| stat.is_alive())
}

/// SIGKILL.
pub(super) fn kill(pid: u32) {
    signal(pid, KILL);
}

/// A signal, by a descriptor, so that no other process with a recycled pid is hit.
pub(super) fn signal(pid: u32, number: i32) {
    use std::os::fd::AsFd;
    if let Ok(process) = sys::pidfd::open(pid) {
        // A process that is gone already needs none.
        let _ = sys::pidfd::send_signal(process.as_fd(), number);
    }
}
