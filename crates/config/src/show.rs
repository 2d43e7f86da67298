//! A configuration as TOML with every default written out.
//!
//! Invariant: what is shown, read again, is the same configuration.

mod faces;
mod tolerance;

use crate::service::{RESOURCES, Unit};
use crate::settings::{ApiSettings, Config, Principal};
use crate::signal::name_of;
use base::{ByteSize, format_duration};
use std::path::Path;
use std::time::Duration;
use supervisor::{
    IoPriority, Kind, LogPolicy, Probe, ProcessSpec, Readiness, RestartPolicy, RestartWhen,
    ServiceSpec, SocketAddress, SocketSpec, StopAction,
};
use toml::{Table, Value};

/// The whole configuration.
pub fn show(config: &Config) -> String {
    let mut text = Text::default();
    let daemon = &config.daemon;
    text.section("daemon");
    text.put("node", daemon.node.as_str());
    text.put("state_dir", path(&daemon.state_dir));
    text.put("run_dir", path(&daemon.run_dir));
    text.put("stall_limit", format_duration(daemon.stall_limit));
    text.put("shutdown_timeout", format_duration(daemon.shutdown_timeout));
    text.section("console");
    text.put("listen", config.console.listen.map_or("off".to_owned(), |at| at.to_string()));
    text.put("sample_interval", format_duration(config.console.sample_interval));
    text.section("journal");
    text.put("age_max", format_duration(config.journal.age_max));
    text.put("size_max", config.journal.size_max.to_string());
    show_api(&mut text, &config.api);
    faces::show(&mut text, config);
    for service in config.services.values() {
        show_service(&mut text, service);
    }
    text.done
}

/// TOML being written.
#[derive(Default)]
struct Text {
    done: String,
}

impl Text {
    fn section(&mut self, name: &str) {
        self.header(&format!("[{name}]"));
    }

    fn header(&mut self, header: &str) {
        if !self.done.is_empty() {
            self.done.push('\n');
        }
        self.done.push_str(header);
        self.done.push('\n');
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        for piece in [key, " = ", &value.into().to_string(), "\n"] {
            self.done.push_str(piece);
        }
    }
}

fn show_api(text: &mut Text, api: &ApiSettings) {
    text.section("api");
    text.put("operators", api.operators.iter().map(principal).collect::<Vec<_>>());
    text.put("viewers", api.viewers.iter().map(principal).collect::<Vec<_>>());
    if let Some(tcp) = &api.tcp {
        text.section("api.tcp");
        text.put("listen", tcp.listen.to_string());
        if let Some(tls) = &tcp.tls {
            text.put("certificate", path(&tls.certificate));
            text.put("key", path(&tls.key));
        }
    }
    for token in &api.tokens {
        text.header("[[api.token]]");
        text.put("name", token.name.as_str());
        text.put("sha256", crate::api::hex(&token.sha256));
        text.put("role", if token.may_act { "act" } else { "read" });
    }
}

fn principal(principal: &Principal) -> String {
    match principal {
        Principal::User(name) => format!("user:{name}"),
        Principal::Group(name) => format!("group:{name}"),
        Principal::Everyone => "everyone".to_owned(),
    }
}

fn show_service(text: &mut Text, service: &ServiceSpec) {
    let name = quoted(service.name.as_str());
    text.section(&format!("service.{name}"));
    text.put("description", service.description.as_str());
    text.put("command", service.process.argv.clone());
    let kind = match &service.kind {
        Kind::Simple => "simple",
        Kind::Forking { .. } => "forking",
        Kind::Oneshot => "oneshot",
    };
    text.put("kind", kind);
    if let Kind::Forking { pid_file: Some(file) } = &service.kind {
        text.put("pid_file", path(file));
    }
    text.put("autostart", service.autostart);
    text.put("instances", i64::from(service.instances));
    show_process(text, &service.process);
    let names = |set: &std::collections::BTreeSet<base::ServiceName>| -> Vec<String> {
        set.iter().map(ToString::to_string).collect()
    };
    text.put("after", names(&service.after));
    text.put("requires", names(&service.requires));
    text.put("wants", names(&service.wants));
    text.put("ready", readiness(&service.ready));
    text.put("start_timeout", format_duration(service.start_timeout));
    text.put("watchdog", service.watchdog.map_or("off".to_owned(), format_duration));
    let steps = service.stop.iter().map(|step| stop_step(action(&step.action), step.wait));
    text.put("stop", steps.collect::<Vec<_>>());
    text.put("reload", service.reload.as_ref().map_or(Value::from("off"), |r| action(r).into()));
    text.put("restart", restart(&service.restart));
    text.put("log", log(&service.log));
    tolerance::show_keys(text, service);
    tolerance::show_sections(text, &name, &service.tolerance);
}

/// A dot in a bare header would make a table of it.
fn quoted(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn show_process(text: &mut Text, process: &ProcessSpec) {
    if let Some(port) = process.port {
        text.put("port", i64::from(port));
    }
    text.put("directory", path(&process.directory));
    if let Some(user) = &process.user {
        text.put("user", user.as_str());
    }
    if let Some(group) = &process.group {
        text.put("group", group.as_str());
    }
    if let Some(groups) = &process.supplementary_groups {
        text.put("supplementary_groups", groups.clone());
    }
    text.put("umask", format!("{:03o}", process.umask));
    text.put("nice", i64::from(process.nice));
    if let Some(priority) = process.io_priority {
        let shown = match priority {
            IoPriority::Realtime(level) => format!("realtime:{level}"),
            IoPriority::BestEffort(level) => format!("best-effort:{level}"),
            IoPriority::Idle => "idle".to_owned(),
        };
        text.put("io_priority", shown);
    }
    text.put("oom_score_adjust", i64::from(process.oom_score_adjust));
    text.put("no_new_privileges", process.no_new_privileges);
    let env = process.env.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str())));
    text.put("env", env.collect::<Table>());
    let files = process.env_files.iter().map(|(file, may_be_missing)| {
        format!("{}{}", if *may_be_missing { "-" } else { "" }, path(file))
    });
    text.put("env_file", files.collect::<Vec<_>>());
    text.put("rlimits", rlimits(process));
    let limits = [
        ("memory", process.limits.memory.map(|size| Value::from(size.to_string()))),
        ("cpu", process.limits.cpu_percent.map(|percent| Value::from(format!("{percent}%")))),
        ("pids", process.limits.pids.map(|pids| Value::from(i64::from(pids)))),
    ];
    text.put("limits", some(limits));
    text.put("sockets", process.sockets.iter().map(socket).collect::<Vec<_>>());
}

/// A table of what is there.
fn some<const N: usize>(entries: [(&str, Option<Value>); N]) -> Table {
    let entries = entries.into_iter();
    entries.filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn rlimits(process: &ProcessSpec) -> Table {
    let one = |limit: Option<u64>, unit: Unit| match (limit, unit) {
        (None, _) => Value::from("unlimited"),
        (Some(bytes), Unit::Bytes) => Value::from(ByteSize(bytes).to_string()),
        (Some(micros), Unit::Micros) => Value::from(format!("{micros}us")),
        // Beyond TOML's numbers there is no such count, nor such a time.
        (Some(n), Unit::Seconds | Unit::Count) => i64::try_from(n).unwrap_or(i64::MAX).into(),
    };
    let limits = RESOURCES.iter().filter_map(|(name, resource, unit)| {
        let pair = process.rlimits.get(resource)?;
        let (soft, hard) = (one(pair.soft, *unit), one(pair.hard, *unit));
        let both = some([("soft", Some(soft)), ("hard", Some(hard))]);
        Some(((*name).to_owned(), Value::from(both)))
    });
    limits.collect()
}

fn socket(socket: &SocketSpec) -> Table {
    let mut shown = match &socket.address {
        SocketAddress::Tcp(address) => some([("tcp", Some(address.to_string().into()))]),
        SocketAddress::Udp(address) => some([("udp", Some(address.to_string().into()))]),
        SocketAddress::Unix { path: at, mode, owner, group } => some([
            ("unix", Some(path(at).into())),
            ("mode", Some(format!("{mode:03o}").into())),
            ("owner", owner.as_deref().map(Value::from)),
            ("group", group.as_deref().map(Value::from)),
        ]),
    };
    let has_queue = !matches!(socket.address, SocketAddress::Udp(_));
    shown.extend(some([
        ("name", Some(socket.name.as_str().into())),
        ("shared", Some(socket.shared.into())),
        ("backlog", has_queue.then(|| i64::from(socket.backlog).into())),
    ]));
    shown
}

fn readiness(ready: &Readiness) -> Value {
    let (probe, interval, timeout) = match ready {
        Readiness::Started => return "started".into(),
        Readiness::Notify => return "notify".into(),
        Readiness::Delay(delay) => {
            return some([("delay", Some(format_duration(*delay).into()))]).into();
        }
        Readiness::Probe { probe, interval, timeout } => (probe, interval, timeout),
    };
    let (key, asked, status) = match probe {
        Probe::Tcp(address) => ("tcp", Value::from(address.as_str()), None),
        Probe::Http { url, status } => ("http", Value::from(url.as_str()), *status),
        Probe::Command(argv) => ("command", argv.clone().into(), None),
        Probe::File(file) => ("file", Value::from(file.as_str()), None),
    };
    some([
        (key, Some(asked)),
        ("status", status.map(|status| i64::from(status).into())),
        ("interval", Some(format_duration(*interval).into())),
        ("timeout", Some(format_duration(*timeout).into())),
    ])
    .into()
}

fn action(action: &StopAction) -> Table {
    match action {
        StopAction::Signal(signal) => some([("signal", Some(name_of(*signal).into()))]),
        StopAction::Command(argv) => some([("command", Some(argv.clone().into()))]),
    }
}

fn stop_step(mut action: Table, wait: Duration) -> Table {
    action.insert("wait".to_owned(), format_duration(wait).into());
    action
}

fn restart(policy: &RestartPolicy) -> Table {
    let when = match policy.when {
        RestartWhen::Always => "always",
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Never => "never",
    };
    let codes = policy.success_codes.iter().map(|code| i64::from(*code)).collect::<Vec<_>>();
    let signals = policy.success_signals.iter().map(|signal| name_of(*signal)).collect::<Vec<_>>();
    some([
        ("when", Some(when.into())),
        ("success_codes", Some(codes.into())),
        ("success_signals", Some(signals.into())),
        ("delay", Some(format_duration(policy.backoff.first).into())),
        ("delay_max", Some(format_duration(policy.backoff.max).into())),
        ("jitter", Some(format!("{}%", policy.backoff.jitter_percent).into())),
        ("healthy_after", Some(format_duration(policy.healthy_after).into())),
        ("budget", Some(i64::from(policy.budget).into())),
        ("within", Some(format_duration(policy.budget_window).into())),
    ])
}

fn log(policy: &LogPolicy) -> Table {
    some([
        ("file", policy.path.as_ref().map(|file| path(file).into())),
        ("size", Some(policy.size_max.to_string().into())),
        ("age", Some(policy.age_max.map_or("never".to_owned(), format_duration).into())),
        ("keep", Some(i64::from(policy.keep).into())),
        ("compress", Some(policy.compress.into())),
        ("split_stderr", Some(policy.split_stderr.into())),
    ])
}
