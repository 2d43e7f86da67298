//! Executing a new binary in place: same process, same children, same open sockets.
//!
//! The new program finds the services by their run records, exactly as after a crash; it also
//! inherits what a crash would have closed: the lock and the listening sockets. It is tried first:
//! a binary that can't read our configuration is refused, and nothing has changed.

use super::control_server::fault;
use super::driver::{CommandFor, Driver};
use super::duties;
use super::hands::{Realm, RunKey};
use super::requests::done;
use base::{InstanceId, Now, RunId};
use control::{Caller, ErrorCode, Reply, Severity};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The variable that names what is inherited, as `name=fd,name=fd`.
pub(crate) const KEEP_VARIABLE: &str = "HOLDFAST_KEEP";

/// A new binary must have read our configuration within this time.
const TRIAL_MAX: Duration = Duration::from_secs(10);

/// Whoever asked gets the answer in this time, before the program that holds the connection ends.
const REPLY_TIME: Duration = Duration::from_millis(50);

/// Jobs under way have this long to end before the new binary is executed.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(5);

/// An upgrade that was asked for.
pub(crate) struct Upgrade {
    pub(crate) binary: PathBuf,
    answer: Option<oneshot::Sender<Reply>>,
    /// The binary has passed its trial: the loop executes it then.
    pub(crate) at: Option<Now>,
}

impl Driver {
    /// Tries the new binary; the loop executes it when this has gone well.
    pub(crate) fn ask_upgrade(
        &mut self,
        caller: &Caller,
        binary: Option<String>,
        answer: oneshot::Sender<Reply>,
    ) {
        let binary = binary.map_or_else(|| self.duties.program.clone(), PathBuf::from);
        let refusal = match () {
            () if self.ending.is_some() => Some((ErrorCode::Conflict, "holdfast is ending")),
            () if self.upgrade.is_some() => {
                Some((ErrorCode::Conflict, "an upgrade is under way already"))
            }
            () if !binary.is_absolute() => {
                Some((ErrorCode::Invalid, "the path of the new binary must be absolute"))
            }
            () => None,
        };
        if let Some((code, why)) = refusal {
            let _ = answer.send(fault(code, why, ""));
            return;
        }
        let Ok(instance) = "upgrade".parse::<InstanceId>() else { return };
        let message =
            format!("{} tries the binary {} for an upgrade", caller.name, binary.display());
        self.events.say("holdfast", "daemon.upgrade", Severity::Info, message);
        let argv = ["config", "check"].map(str::to_owned);
        let argv = [binary.to_string_lossy().into_owned()].into_iter().chain(argv);
        let argv = argv.chain([self.config_path.to_string_lossy().into_owned()]).collect();
        self.upgrade = Some(Upgrade { binary, answer: Some(answer), at: None });
        let key = RunKey { realm: Realm::Duties, instance, run: RunId(0) };
        let process = Arc::new(duties::process(Vec::new()));
        self.execute_command(
            (key, CommandFor::Trial),
            process,
            (argv, None),
            TRIAL_MAX,
            Vec::new(),
        );
    }

    /// The trial is over.
    pub(crate) fn upgrade_tried(&mut self, result: Result<(), String>) {
        let Some(mut upgrade) = self.upgrade.take() else { return };
        let Some(answer) = upgrade.answer.take() else { return };
        let reply = match result {
            Ok(()) => {
                upgrade.at = Some(sys::clock::now() + REPLY_TIME);
                let message = format!("{} is executed in place now", upgrade.binary.display());
                self.upgrade = Some(upgrade);
                done(&message, Vec::new())
            }
            Err(why) => {
                let message = format!("not upgraded: the new binary did not pass its trial: {why}");
                let kind = "daemon.upgrade_refused";
                self.events.say("holdfast", kind, Severity::Error, message.clone());
                fault(ErrorCode::Invalid, message, "the running holdfast goes on as it is")
            }
        };
        let _ = answer.send(reply);
    }
}

/// What the next program needs to know.
pub(crate) struct Handover<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) kept: Vec<(String, BorrowedFd<'a>)>,
}

/// Executes it. Returns only if that failed.
pub(crate) fn execute(handover: &Handover<'_>) -> std::io::Error {
    let named = handover.kept.iter().map(|(name, fd)| format!("{name}={}", fd.as_raw_fd()));
    let keep = named.collect::<Vec<_>>().join(",");
    let mut env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name != KEEP_VARIABLE).collect();
    env.extend(sys::notify::environment().iter().cloned());
    env.push((KEEP_VARIABLE.into(), keep.into()));
    let fds: Vec<BorrowedFd<'_>> = handover.kept.iter().map(|(_, fd)| *fd).collect();
    sys::process::exec_in_place(handover.binary, &handover.arguments, &fds, &env)
}
