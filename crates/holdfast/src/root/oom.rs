//! Was it the memory limit? The kernel's SIGKILL looks like anybody's; its counter tells.
//!
//! The counter of a run's group begins with the run and is read whenever its tree is looked at, by a
//! hand; what it has grown by is an event (H7).
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, `memory.events`, and
//! cgroup-v1/memory.rst, `memory.oom_control`.

use super::driver::Driver;
use super::hands::RunKey;
use control::Severity;

impl Driver {
    /// Says that the memory limit was the cause, where it was.
    pub(crate) fn oom_seen(&mut self, key: &RunKey, oom_kills: Option<u64>) {
        let Some(run) = self.run(key) else { return };
        let before = std::mem::replace(&mut run.oom_kills, oom_kills);
        let (Some(before), Some(now)) = (before, oom_kills) else { return };
        let limit = run.spec.process.limits.memory;
        let kills = now.saturating_sub(before);
        if kills == 0 {
            return;
        }
        let instance = key.instance.to_string();
        let limit = limit.map_or_else(String::new, |size| format!(" of {size}"));
        let what = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") };
        let message =
            format!("the kernel killed {what} of {instance}: its memory limit{limit} was reached");
        let data = [("kills".to_owned(), kills.into())].into_iter().collect();
        let severity = Severity::Error;
        self.events.say_with(&instance, "service.out_of_memory", severity, message, data);
    }
}
