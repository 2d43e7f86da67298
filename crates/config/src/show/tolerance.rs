//! Tolerance, its detectors and what a service depends on, as TOML.

use super::{Text, action, path, some, stop_step};
use base::{ByteSize, format_duration};
use supervisor::{
    CounterSource, Dependency, DependencyTarget, Detector, EvidencePolicy, HealthProbe,
    LeakResource, Probe, Progress, QuarantinePolicy, Remedy, Rule, ServiceSpec, StackTool,
    Successor, Tolerance, Trend,
};
use toml::{Table, Value};

/// The keys of a service's own section.
pub(super) fn show_keys(text: &mut Text, service: &ServiceSpec) {
    let depends = service.depends.iter().map(|(name, it)| (name.clone(), dependency(it).into()));
    text.put("depends", depends.collect::<Table>());
    let listener = service.listener.as_ref().map_or(Value::from("off"), |listener| {
        let events: Vec<Value> = listener.events.iter().map(|name| name.as_str().into()).collect();
        let buffer = i64::from(listener.buffer);
        some([("events", Some(events.into())), ("buffer", Some(buffer.into()))]).into()
    });
    text.put("event_listener", listener);
    let events = service.output_events;
    let told = (events != supervisor::OutputEvents::default()).then(|| {
        some([
            ("stdout", Some(events.stdout.into())),
            ("stderr", Some(events.stderr.into())),
            ("stdout_capture", Some(events.stdout_capture.to_string().into())),
            ("stderr_capture", Some(events.stderr_capture.to_string().into())),
        ])
        .into()
    });
    text.put("output_events", told.unwrap_or_else(|| Value::from("off")));
}

/// The sections below it. `name` is quoted where that is needed.
pub(super) fn show_sections(text: &mut Text, name: &str, tolerance: &Tolerance) {
    text.section(&format!("service.{name}.tolerance"));
    text.put("mode", tolerance.mode.as_str());
    text.put("interval", format_duration(tolerance.interval));
    let replace = &tolerance.replace;
    let successor = match replace.successor {
        Successor::After => "after",
        Successor::Beside => "beside",
    };
    text.put("successor", successor);
    text.put("settle", format_duration(replace.settle));
    text.put("drain", format_duration(replace.drain));
    text.put("warm_up", replace.warm_up.iter().map(warm_up).collect::<Vec<_>>());
    text.put("warm_up_timeout", format_duration(replace.warm_up_timeout));
    text.put("group_max", i64::from(replace.group_max));
    text.put("remedies", tolerance.remedies.iter().map(remedy).collect::<Vec<_>>());
    text.put("evidence", evidence(&tolerance.evidence));
    text.put("quarantine", tolerance.quarantine.as_ref().map_or("off".into(), quarantine));
    let answers = tolerance.answers.iter().map(|(state, answer)| {
        let status = i64::from(answer.status).into();
        let answer =
            some([("status", Some(status)), ("agent", Some(answer.agent.as_str().into()))]);
        (state.as_str().to_owned(), Value::from(answer))
    });
    text.put("answers", answers.collect::<Table>());
    for (detector_name, detector) in &tolerance.detectors {
        text.section(&format!("service.{name}.detect.{}", super::quoted(detector_name)));
        show_detector(text, detector);
    }
}

fn dependency(dependency: &Dependency) -> Table {
    let mut table = match &dependency.target {
        DependencyTarget::Service(name) => some([("service", Some(name.as_str().into()))]),
        DependencyTarget::Mount(at) => some([("mount", Some(path(at).into()))]),
        DependencyTarget::Probe(HealthProbe::Tcp(address)) => {
            some([("tcp", Some(address.as_str().into()))])
        }
        DependencyTarget::Probe(HealthProbe::Command(argv)) => {
            some([("command", Some(argv.clone().into()))])
        }
        DependencyTarget::Probe(HealthProbe::Http { url, status, contains }) => some([
            ("http", Some(url.as_str().into())),
            ("status", status.map(|status| i64::from(status).into())),
            ("contains", contains.as_deref().map(Value::from)),
        ]),
    };
    let slow = dependency.slow.map(|slow| format_duration(slow).into());
    table.extend(slow.map(|slow| ("slow".to_owned(), slow)));
    table
}

fn warm_up(probe: &Probe) -> Table {
    match probe {
        Probe::Tcp(address) => some([("tcp", Some(address.as_str().into()))]),
        Probe::Http { url, status } => some([
            ("http", Some(url.as_str().into())),
            ("status", status.map(|status| i64::from(status).into())),
        ]),
        Probe::Command(argv) => some([("command", Some(argv.clone().into()))]),
        Probe::File(file) => some([("file", Some(file.as_str().into()))]),
    }
}

fn remedy(remedy: &Remedy) -> Table {
    let mut table = stop_step(action(&remedy.action), remedy.wait);
    table.insert("name".to_owned(), remedy.name.as_str().into());
    let detectors: Vec<&str> = remedy.detectors.iter().map(String::as_str).collect();
    table.insert("detectors".to_owned(), detectors.into());
    table
}

fn evidence(policy: &EvidencePolicy) -> Table {
    let stacks = match &policy.stacks {
        StackTool::Auto => "auto".into(),
        StackTool::Off => "off".into(),
        StackTool::Command(argv) => Value::from(argv.clone()),
    };
    some([
        ("budget", Some(format_duration(policy.budget).into())),
        ("stacks", Some(stacks)),
        ("core", Some(policy.core.into())),
        ("size_max", Some(policy.size_max.to_string().into())),
        ("keep", Some(i64::from(policy.keep).into())),
    ])
}

fn quarantine(policy: &QuarantinePolicy) -> Value {
    let keep = format_duration(policy.keep).into();
    some([("keep", Some(keep)), ("max", Some(i64::from(policy.max).into()))]).into()
}

fn show_detector(text: &mut Text, detector: &Detector) {
    text.put("kind", detector.rule.kind());
    text.put("mode", detector.mode.as_str());
    match &detector.rule {
        Rule::Answer { probe, interval, timeout, failures } => {
            show_probe(text, probe);
            text.put("interval", format_duration(*interval));
            text.put("timeout", format_duration(*timeout));
            text.put("failures", i64::from(*failures));
        }
        Rule::Backlog { queue, connections, lasting, progress } => {
            text.put("queue", i64::from(*queue));
            if let Some(connections) = connections {
                text.put("connections", i64::from(*connections));
            }
            text.put("lasting", format_duration(*lasting));
            text.put("progress", show_progress(progress));
        }
        Rule::Deadlock { lasting } | Rule::Uninterruptible { lasting } => {
            text.put("lasting", format_duration(*lasting));
        }
        Rule::Livelock { core_percent, lasting, progress } => {
            text.put("core_percent", i64::from(*core_percent));
            text.put("lasting", format_duration(*lasting));
            text.put("progress", show_progress(progress));
        }
        Rule::Leak { resource, limit, share_percent, trend } => {
            show_leak(text, resource, *limit, *share_percent, *trend);
        }
        Rule::Age { every, jitter_percent } => {
            text.put("every", format_duration(*every));
            text.put("jitter_percent", i64::from(*jitter_percent));
        }
        Rule::Requests { after, source } => {
            text.put("after", whole(*after));
            text.put("source", counter(source));
        }
    }
}

fn show_probe(text: &mut Text, probe: &HealthProbe) {
    match probe {
        HealthProbe::Tcp(address) => text.put("address", address.as_str()),
        HealthProbe::Command(argv) => text.put("command", argv.clone()),
        HealthProbe::Http { url, status, contains } => {
            text.put("url", url.as_str());
            if let Some(status) = status {
                text.put("status", i64::from(*status));
            }
            if let Some(contains) = contains {
                text.put("contains", contains.as_str());
            }
        }
    }
}

fn show_leak(
    text: &mut Text,
    resource: &LeakResource,
    limit: Option<u64>,
    share_percent: Option<u32>,
    trend: Option<Trend>,
) {
    if let LeakResource::Disk(at) = resource {
        text.put("path", path(at));
    }
    if let Some(limit) = limit {
        let limit = match resource {
            LeakResource::Memory | LeakResource::Swap | LeakResource::Disk(_) => {
                Value::from(ByteSize(limit).to_string())
            }
            LeakResource::Descriptors | LeakResource::Threads | LeakResource::CloseWait => {
                whole(limit)
            }
        };
        text.put("limit", limit);
    }
    if let Some(percent) = share_percent {
        text.put("share_percent", i64::from(percent));
    }
    if let Some(Trend { window, ahead }) = trend {
        let times = [("window", window), ("ahead", ahead)];
        text.put("trend", some(times.map(|(key, time)| (key, Some(format_duration(time).into())))));
    }
}

/// Beyond TOML's numbers nothing is ever counted.
fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn show_progress(progress: &Progress) -> Value {
    match progress {
        Progress::Kernel => "kernel".into(),
        Progress::Counter(source) => counter(source).into(),
    }
}

fn counter(source: &CounterSource) -> Table {
    match source {
        CounterSource::Notify => some([("notify", Some(true.into()))]),
        CounterSource::HttpJson { url, field } => {
            some([("http", Some(url.as_str().into())), ("field", Some(field.as_str().into()))])
        }
        CounterSource::AccessLog(log) => some([("access_log", Some(path(log).into()))]),
    }
}
