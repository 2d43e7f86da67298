//! What operators ask, by the control socket or through the console: each request is answered
//! once, after what it did is on record.

use super::control_server::{Asked, fault};
use super::driver::{Driver, Ending, Happening};
use super::events::Events;
use super::hands::Realm;
use base::{InstanceId, ServiceName};
use control::{Caller, ErrorCode, Reply, Request, ServiceAction, Severity};
use std::sync::Arc;
use supervisor::{Action, Input, ShutdownMode};
use tokio::sync::oneshot;

/// How many lines of output `why` quotes.
const QUOTED_LINES: usize = 10;

impl Driver {
    /// Answers one request, now or when what it waits for is done.
    pub(crate) fn asked(&mut self, asked: Asked) {
        let Asked { caller, request, answer } = asked;
        let reply = match request {
            Request::Ping => Reply::Pong {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: control::PROTOCOL_VERSION,
            },
            Request::Status => {
                self.give_back_later();
                Reply::Status { snapshot: Box::new(self.snapshot()) }
            }
            Request::Why { subject } => return self.answer_why(&subject, answer),
            Request::Service { action, targets } => self.service(&caller, action, &targets),
            Request::Mode { targets, mode } => self.set_modes(&caller, &targets, mode.as_deref()),
            Request::Cured { targets } => self.cured(&caller, &targets),
            Request::Reload => return self.reload(&caller.name, Some(answer)),
            Request::ConfigShow => Reply::Config { toml: config::show(&self.config) },
            Request::Stop { keep_services } => self.stop(&caller, keep_services),
            Request::Upgrade { binary } => return self.ask_upgrade(&caller, binary, answer),
            Request::Record { event } => {
                self.events.record(*event);
                done("recorded", Vec::new())
            }
            Request::Notice { code, notice } => {
                match notice {
                    Some(notice) => drop(self.notices.insert(code, notice)),
                    None => drop(self.notices.remove(&code)),
                }
                done("noted", Vec::new())
            }
            // Both are dealt with where the connection is served.
            Request::Subscribe | Request::OnBehalf { .. } => {
                fault(ErrorCode::Invalid, "this can't be asked in this way", "")
            }
        };
        // What was done is on record before anybody is told that it was.
        let (written, upto) = (self.events.written(), self.events.last());
        self.tasks.spawn(async move {
            Events::acknowledge(written, upto).await;
            let _ = answer.send(reply);
        });
    }

    /// What is large and short-lived (a configuration, a view of everything) leaves holes.
    pub(crate) fn give_back_later(&mut self) {
        if self.giving_back.as_ref().is_none_or(tokio::task::AbortHandle::is_finished) {
            self.giving_back = Some(self.tasks.spawn(crate::own_loop::give_back_later()));
        }
    }

    /// The instances that a text names: one, all of a service, or all with `*`.
    pub(crate) fn resolve(&self, target: &str) -> Result<Vec<InstanceId>, Reply> {
        if target == "*" {
            let all = self.config.services.values();
            return Ok(all.flat_map(|spec| spec.instance_ids().collect::<Vec<_>>()).collect());
        }
        let unknown = || {
            let nearest = self.nearest(target);
            let help = nearest.map_or_else(
                || "`holdfast status` lists the services".to_owned(),
                |name| format!("did you mean `{name}`?"),
            );
            fault(ErrorCode::NotFound, format!("there is no service `{target}`"), &help)
        };
        if let Ok(name) = target.parse::<ServiceName>()
            && let Some(spec) = self.config.services.get(&name)
        {
            return Ok(spec.instance_ids().collect());
        }
        let instance = target.parse::<InstanceId>().map_err(|_| unknown())?;
        let known = self.services.core.why(&instance).is_some();
        if known { Ok(vec![instance]) } else { Err(unknown()) }
    }

    /// All instances that these texts name; at least one.
    pub(crate) fn resolve_all(&self, targets: &[String]) -> Result<Vec<InstanceId>, Reply> {
        let mut instances = Vec::new();
        for target in targets {
            instances.extend(self.resolve(target)?);
        }
        if instances.is_empty() {
            let help = "name one, or `*` for all";
            return Err(fault(ErrorCode::Invalid, "no service was named", help));
        }
        Ok(instances)
    }

    fn nearest(&self, target: &str) -> Option<&ServiceName> {
        let lower = target.to_lowercase();
        self.config.services.keys().find(|name| {
            let name = name.as_str().to_lowercase();
            name.starts_with(&lower) || lower.starts_with(&name) || name.contains(&lower)
        })
    }

    fn service(&mut self, caller: &Caller, action: ServiceAction, targets: &[String]) -> Reply {
        if self.ending.is_some() {
            return fault(ErrorCode::Conflict, "holdfast is ending", "");
        }
        let instances = match self.resolve_all(targets) {
            Ok(instances) => instances,
            Err(reply) => return reply,
        };
        let (action, verb) = match action {
            ServiceAction::Start => (Action::Start, "start".to_owned()),
            ServiceAction::Stop => (Action::Stop, "stop".to_owned()),
            ServiceAction::Restart => (Action::Restart, "restart".to_owned()),
            ServiceAction::Reload => (Action::Reload, "reload".to_owned()),
            ServiceAction::Reset => (Action::Reset, "reset".to_owned()),
            ServiceAction::Replace => (Action::Replace, "replacement".to_owned()),
            ServiceAction::Signal(number) => {
                let known = (1..=64).contains(&number);
                if !known {
                    return fault(ErrorCode::Invalid, format!("{number} is no signal"), "");
                }
                (Action::Signal(number), sys::process::signal_name(number).to_owned())
            }
        };
        if let (Action::Reload, Some(cannot)) = (action, self.first_without_reload(&instances)) {
            let help = format!("set `reload` in [service.{}], or restart it", cannot.service);
            let why = format!("{cannot} does not know how to reload");
            return fault(ErrorCode::Conflict, why, &help);
        }
        let names: Vec<String> = instances.iter().map(ToString::to_string).collect();
        let by = caller.name.clone();
        self.tell(Realm::Services, Input::Command { targets: instances, action, by });
        done(&format!("{verb} asked of {}", names.join(", ")), names)
    }

    fn first_without_reload<'a>(&self, instances: &'a [InstanceId]) -> Option<&'a InstanceId> {
        instances.iter().find(|instance| {
            let spec = self.config.services.get(&instance.service);
            spec.is_none_or(|spec| spec.reload.is_none())
        })
    }

    fn answer_why(&mut self, subject: &str, answer: oneshot::Sender<Reply>) {
        let Some((mut why, log)) = self.why(subject) else {
            let reply = match self.resolve(subject) {
                Err(reply) => reply,
                Ok(_) => fault(ErrorCode::NotFound, format!("nothing is known of {subject}"), ""),
            };
            let _ = answer.send(reply);
            return;
        };
        // The log may lie on a sick disk: it is read off the loop.
        self.tasks.spawn(async move {
            if let Some(log) = log {
                let read = move || journal::logfile::tail(&log, QUOTED_LINES);
                if let Ok(Ok(lines)) = tokio::task::spawn_blocking(read).await {
                    why.last_output = lines;
                }
            }
            let _ = answer.send(Reply::Why { why: Box::new(why) });
        });
    }

    fn stop(&mut self, caller: &Caller, keep_services: bool) -> Reply {
        let mode = match keep_services {
            true => ShutdownMode::KeepServices,
            false => ShutdownMode::StopServices,
        };
        self.begin_ending(mode, &caller.name);
        done(
            match mode {
                ShutdownMode::KeepServices => "holdfast ends and leaves the services running",
                ShutdownMode::StopServices => "holdfast stops the services and ends",
            },
            Vec::new(),
        )
    }

    /// Begins the end of the daemon. Asked again while services are being stopped: nothing new,
    /// unless services are to be kept now.
    pub(crate) fn begin_ending(&mut self, mode: ShutdownMode, by: &str) {
        if self.ending.is_some() {
            return;
        }
        // An upgrade that has not begun would forget that the end was asked for.
        self.upgrade = None;
        let (kind, message) = match mode {
            ShutdownMode::KeepServices => (
                "daemon.stopping",
                format!("holdfast ends and leaves the services running, by {by}"),
            ),
            ShutdownMode::StopServices => {
                ("daemon.stopping", format!("holdfast stops the services and ends, by {by}"))
            }
        };
        self.events.say("holdfast", kind, Severity::Info, message);
        let deadline = sys::clock::now() + self.config.daemon.shutdown_timeout;
        self.ending = Some(Ending {
            mode,
            deadline,
            services_done: false,
            duties_told: false,
            duties_done: false,
            insisted: false,
            gave_up: false,
        });
        self.tell(Realm::Services, Input::Shutdown(mode));
    }

    /// Reads the configuration again; the answer comes when it has been read.
    pub(crate) fn reload(&mut self, by: &str, answer: Option<oneshot::Sender<Reply>>) {
        let message = format!("the configuration is read again, asked by {by}");
        self.events.say("holdfast", "daemon.reload", Severity::Info, message);
        let (path, context) = (self.config_path.clone(), self.context.clone());
        let happenings = self.happenings.clone();
        self.tasks.spawn(async move {
            let read = tokio::task::spawn_blocking(move || config::load(&path, &context)).await;
            if let Ok(loaded) = read {
                let loaded = Box::new(loaded);
                let _ = happenings.send(Happening::Reloaded { loaded, answer }).await;
            }
        });
    }

    /// The configuration has been read: take it, or say what is wrong and change nothing.
    pub(crate) fn reloaded(
        &mut self,
        loaded: config::Loaded,
        answer: Option<oneshot::Sender<Reply>>,
    ) {
        let reply = match loaded.config {
            None => {
                let faults = loaded.diagnostics.render(false);
                let message = "the configuration has faults: nothing was changed".to_owned();
                let data = [("faults".to_owned(), faults.clone().into())].into_iter().collect();
                let severity = Severity::Error;
                self.events.say_with("holdfast", "daemon.reload_refused", severity, message, data);
                let message =
                    format!("the configuration has faults, nothing was changed\n{faults}");
                fault(ErrorCode::Invalid, message, "mend them and reload again")
            }
            Some(_) if self.ending.is_some() => {
                fault(ErrorCode::Conflict, "holdfast is ending", "")
            }
            Some(new) => {
                let summary = self.apply(new);
                self.give_back_later();
                let message = format!("configuration taken: {summary}");
                self.events.say("holdfast", "daemon.reloaded", Severity::Info, message.clone());
                done(&message, Vec::new())
            }
        };
        if let Some(answer) = answer {
            let _ = answer.send(reply);
        }
    }

    /// Makes a checked configuration the one in force. Touches only what differs.
    pub(crate) fn apply(&mut self, new: config::Config) -> String {
        let difference = config::difference(&self.config, &new);
        let mut new = new;
        let mut summary = difference.to_string();
        if new.daemon != self.config.daemon {
            let (old, wanted) = (&self.config.daemon, &new.daemon);
            let moved = old.state_dir != wanted.state_dir || old.run_dir != wanted.run_dir;
            if moved || old.node != wanted.node || old.stall_limit != wanted.stall_limit {
                summary.push_str(
                    "; `node`, `state_dir`, `run_dir` and `stall_limit` of [daemon] take effect \
                     when holdfast is started again",
                );
                let shutdown_timeout = wanted.shutdown_timeout;
                new.daemon = config::DaemonSettings { shutdown_timeout, ..old.clone() };
            }
        }
        let restart = super::duties::touched(&self.config, &new);
        let had_mail = self.config.mail.is_some();
        self.config = new;
        if !had_mail {
            self.begin_mail();
        }
        if self.config.mail.is_none() {
            self.notices.retain(|code, _| !code.starts_with("mail-"));
        }
        self.write_effective_config();
        self.open_listeners();
        self.tell(Realm::Duties, Input::Configure(self.duties.specs(&self.config)));
        let targets: Vec<InstanceId> =
            restart.iter().filter_map(|name| name.parse().ok()).collect();
        if !targets.is_empty() {
            let (action, by) = (Action::Restart, "a new configuration".to_owned());
            self.tell(Realm::Duties, Input::Command { targets, action, by });
        }
        let wanted = self.config.services.iter();
        let wanted = wanted.map(|(name, spec)| (name.clone(), Arc::clone(spec))).collect();
        self.tell(Realm::Services, Input::Configure(wanted));
        self.apply_modes();
        summary
    }

    /// Until now no mail was wanted: it begins with what happens from now on.
    pub(crate) fn begin_mail(&mut self) {
        self.duties.mail_since = sys::clock::wall();
        // Mostly there is none.
        let _ = std::fs::remove_file(self.paths.mail_cursor());
    }
}

/// Done.
pub(crate) fn done(message: &str, instances: Vec<String>) -> Reply {
    Reply::Done { message: message.to_owned(), instances }
}
