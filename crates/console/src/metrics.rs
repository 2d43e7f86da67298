//! Metrics in Prometheus' text format.
//!
//! Why our own encoder: the format is a line a sample, and everything here is read at the moment it
//! is asked for. A metrics library would keep a second copy of every number in a registry, and
//! forgetting services that are gone would be the harder part.
//! Invariants: each family has `HELP` and `TYPE` once, before its samples; label values are escaped
//! and come from closed sets (services, instances, states, our own processes and queues).
//! Source: Prometheus, "Exposition formats", "Metric and label naming".

mod health;
mod mail;

use crate::App;
use crate::history::{LIVE_EVENTS_MAX, QUESTIONS_MAX};
use crate::link::LINK_REQUESTS_MAX;
use crate::samples::Ring;
use crate::streams::STREAMS_MAX;
use control::{InstanceView, ServiceView, Severity, Snapshot};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

const STATES: [&str; 8] =
    ["stopped", "waiting", "starting", "running", "stopping", "backoff", "failed", "finished"];

/// Everything, as text. Where the root does not answer, what the console knows by itself, and
/// `holdfast_root_up 0`.
pub(crate) async fn collect(app: &App) -> String {
    let snapshot = app.snapshots.fresh().await.ok();
    let mut page = Page::default();
    page.family("holdfast_root_up", "gauge", "1 when the root process answers.");
    page.sample(&[], u8::from(snapshot.is_some()));
    if let Some(snapshot) = &snapshot {
        page.family("holdfast_build_info", "gauge", "Always 1; what runs here.");
        page.sample(&[("version", &snapshot.version), ("node", &snapshot.node)], 1);
        services(&mut page, snapshot, &app.samples.lock());
        health::health(&mut page, snapshot, app.history.tally());
        page.family(
            "holdfast_events_lost_total",
            "counter",
            "Events that could not be written since the root started.",
        );
        page.sample(&[], snapshot.events_lost);
    }
    if let Some(view) = mail::view(app).await {
        mail::mail(&mut page, &view);
    }
    own_work(&mut page, app);
    processes(&mut page, snapshot.as_deref());
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        // Writing to a string can't fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            self.escaped(text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    /// One sample an instance, where there is a value.
    fn each<T: Display>(
        &mut self,
        snapshot: &Snapshot,
        value: impl Fn(&ServiceView, &InstanceView) -> Option<T>,
    ) {
        for service in &snapshot.services {
            for instance in &service.instances {
                if let Some(value) = value(service, instance) {
                    let labels = [("service", &*service.name), ("instance", &*instance.name)];
                    self.sample(&labels, value);
                }
            }
        }
    }
}

fn services(page: &mut Page, snapshot: &Snapshot, rings: &BTreeMap<String, Ring>) {
    page.family("holdfast_service_up", "gauge", "1 when the instance is ready.");
    page.each(snapshot, |_, one| Some(u8::from(one.state == "running")));
    page.family("holdfast_service_state", "gauge", "1 for the state that the instance is in.");
    for service in &snapshot.services {
        for instance in &service.instances {
            for state in STATES {
                let labels =
                    [("service", &*service.name), ("instance", &*instance.name), ("state", state)];
                page.sample(&labels, u8::from(instance.state == state));
            }
        }
    }
    page.family(
        "holdfast_service_restarts_total",
        "counter",
        "Restarts by policy since the daemon knows the instance.",
    );
    page.each(snapshot, |_, one| Some(one.restarts));
    page.family(
        "holdfast_service_start_time_seconds",
        "gauge",
        "When the present run became ready (or was started), seconds since the epoch.",
    );
    page.each(snapshot, |_, one| {
        one.uptime_ms.map(|uptime| {
            let micros = snapshot.taken_us - i64::try_from(uptime).unwrap_or(0) * 1000;
            micros as f64 / 1e6
        })
    });
    page.family(
        "holdfast_service_resident_memory_bytes",
        "gauge",
        "Resident memory of the instance's processes at the last look.",
    );
    page.each(snapshot, |_, one| {
        let ring = rings.get(&one.name).filter(|_| one.pid.is_some())?;
        ring.last().map(|sample| sample.rss_bytes)
    });
    page.family(
        "holdfast_service_cpu_seconds_total",
        "counter",
        "CPU time that the instance's processes were seen to use.",
    );
    page.each(snapshot, |_, one| rings.get(&one.name).map(|ring| ring.cpu_seconds));
    page.family("holdfast_duty_up", "gauge", "1 when the helper process runs.");
    for duty in &snapshot.duties {
        page.sample(&[("duty", &duty.name)], u8::from(duty.state == "running"));
    }
    page.family("holdfast_duty_restarts_total", "counter", "Restarts of the helper process.");
    for duty in &snapshot.duties {
        page.sample(&[("duty", &duty.name)], duty.restarts);
    }
}

fn own_work(page: &mut Page, app: &App) {
    let tally = app.history.tally();
    page.family(
        "holdfast_events_total",
        "counter",
        "Events stored in the journal since the console started.",
    );
    for severity in [Severity::Info, Severity::Warning, Severity::Error] {
        page.sample(&[("severity", severity.as_str())], tally.events(severity));
    }
    page.family("holdfast_journal_last_seq", "gauge", "Number of the newest event.");
    page.sample(&[], tally.last_seq());
    page.family("holdfast_journal_up", "gauge", "1 when events can be stored.");
    page.sample(&[], u8::from(tally.trouble().is_none()));
    let streams = app.streams.open();
    let queues = [
        ("root_requests", app.root.depth() as u64, LINK_REQUESTS_MAX, app.root.refused()),
        ("journal_questions", tally.waiting(), QUESTIONS_MAX, tally.busy()),
        ("live_events", app.history.backlog() as u64, LIVE_EVENTS_MAX, tally.lagged()),
        ("streams", streams as u64, STREAMS_MAX, app.streams.refused()),
    ];
    page.family("holdfast_queue_depth", "gauge", "What waits in a queue.");
    for (queue, depth, _, _) in queues {
        page.sample(&[("queue", queue)], depth);
    }
    page.family("holdfast_queue_limit", "gauge", "What a queue can hold.");
    for (queue, _, limit, _) in queues {
        page.sample(&[("queue", queue)], limit);
    }
    page.family("holdfast_queue_dropped_total", "counter", "What a full queue refused or dropped.");
    for (queue, _, _, dropped) in queues {
        page.sample(&[("queue", queue)], dropped);
    }
    page.family(
        "holdfast_http_refused_total",
        "counter",
        "Requests that were refused before they reached a handler.",
    );
    for (reason, count) in app.counters.refusals() {
        page.sample(&[("reason", reason)], count);
    }
    page.family(
        "holdfast_http_connections_refused_total",
        "counter",
        "Connections closed at once because too many were open.",
    );
    page.sample(&[], app.counters.turned_away_total());
    page.family(
        "holdfast_health_answers_total",
        "counter",
        "What balancers were told, by HTTP and by agent checks.",
    );
    for (face, answer, count) in app.counters.health_answers() {
        page.sample(&[("face", face), ("answer", answer)], count);
    }
}

/// One of our own processes, as `/proc` shows it.
struct Own {
    name: String,
    stat: sys::proc_fs::Stat,
    open_fds: Option<usize>,
}

fn processes(page: &mut Page, snapshot: Option<&Snapshot>) {
    let mut pids = vec![("console".to_owned(), std::process::id())];
    if let Some(snapshot) = snapshot {
        pids.push(("root".to_owned(), snapshot.pid));
        let others = snapshot.duties.iter().filter(|duty| duty.name != "console");
        pids.extend(others.filter_map(|duty| duty.pid.map(|pid| (duty.name.clone(), pid))));
    }
    let all: Vec<Own> = pids.into_iter().filter_map(|(name, pid)| own(name, pid)).collect();
    let ticks = sys::proc_fs::clock_ticks_per_second() as f64;
    let page_bytes = sys::proc_fs::page_size();
    let boot_us = sys::clock::wall().as_micros() as f64 - sys::clock::now().as_nanos() as f64 / 1e3;
    let families: [(&'static str, &str, &str); 4] = [
        ("process_resident_memory_bytes", "gauge", "Resident memory of holdfast's own process."),
        ("process_cpu_seconds_total", "counter", "CPU time of holdfast's own process."),
        ("process_start_time_seconds", "gauge", "When it started, seconds since the epoch."),
        ("process_open_fds", "gauge", "Its open file descriptors."),
    ];
    for (index, (family, kind, help)) in families.into_iter().enumerate() {
        page.family(family, kind, help);
        for own in &all {
            let stat = &own.stat;
            let value = match index {
                0 => Some((stat.rss_pages * page_bytes) as f64),
                1 => Some((stat.utime_ticks + stat.stime_ticks) as f64 / ticks),
                2 => Some(boot_us / 1e6 + stat.start_ticks as f64 / ticks),
                _ => own.open_fds.map(|count| count as f64),
            };
            if let Some(value) = value {
                page.sample(&[("process", &own.name)], value);
            }
        }
    }
}

fn own(name: String, pid: u32) -> Option<Own> {
    let stat = sys::proc_fs::stat(pid).ok()?;
    let open_fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count);
    Some(Own { name, stat, open_fds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_can_not_break_a_line() {
        let mut page = Page::default();
        page.family("x_total", "counter", "Help.");
        page.sample(&[("a", "q\"b\\s\nn"), ("b", "")], 1);
        let expect = "# HELP x_total Help.\n# TYPE x_total counter\n\
                      x_total{a=\"q\\\"b\\\\s\\nn\",b=\"\"} 1\n";
        assert_eq!(page.text, expect);
    }
}
