//! Rules between the keys of one service: contradictions and impossible relations.
//!
//! Invariant: a rule is silent when one of its keys is faulty by itself, for then the value that
//! it would judge is only a default.

use crate::diagnostic::{Fault, Faults};
use crate::table::Table;
use crate::template::tells_instances_apart;
use base::format_duration;
use supervisor::{Kind, Readiness, RestartWhen, ServiceSpec, SocketAddress, Successor};

/// Checks all of them.
pub(crate) fn check(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    check_oneshot(spec, table, faults);
    check_watchdog(spec, table, faults);
    check_times(spec, table, faults);
    check_instances(spec, table, faults);
    check_ports(spec, table, faults);
    super::output_events::check(spec, table, faults);
}

/// A one-shot ends: it can't be ready in other ways, watched, reloaded or always restarted.
fn check_oneshot(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if spec.kind != Kind::Oneshot || !table.sound(&["kind"]) {
        return;
    }
    let always = spec.restart.when == RestartWhen::Always;
    let contradictions = [
        ("ready", spec.ready != Readiness::Started, "is ready when it has ended"),
        ("restart", always, "would run again and again"),
        ("watchdog", spec.watchdog.is_some(), "is not there to be watched"),
        ("reload", spec.reload.is_some(), "has nothing to reload"),
    ];
    for (key, contradicts, why) in contradictions {
        if contradicts && table.sound(&[key]) {
            let help = match key {
                "restart" => "use \"on-failure\" or \"never\", or another `kind`".to_owned(),
                key => format!("remove `{key}`, or choose another `kind`"),
            };
            faults.push(
                Fault::error("oneshot-contradiction", format!("a one-shot service {why}"))
                    .at(table.value_spot(key), "contradicts `kind = \"oneshot\"`")
                    .also(table.key_spot("kind"), "declared here")
                    .help(help),
            );
        }
    }
}

fn check_watchdog(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    let speaks = spec.ready == Readiness::Notify;
    let oneshot = spec.kind == Kind::Oneshot;
    if spec.watchdog.is_some() && !speaks && !oneshot && table.sound(&["ready", "kind"]) {
        faults.push(
            Fault::error(
                "watchdog-without-notify",
                "a watchdog needs a service that speaks sd_notify",
            )
            .at(table.key_spot("watchdog"), "the service would never say WATCHDOG=1")
            .help("add `ready = \"notify\"` if the program supports it, else remove `watchdog`"),
        );
    }
}

fn check_times(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if !table.sound(&["ready", "start_timeout"]) {
        return;
    }
    let (time, what) = match &spec.ready {
        Readiness::Probe { timeout, .. } => (*timeout, "one probe may take"),
        Readiness::Delay(delay) => (*delay, "the delay takes"),
        Readiness::Started | Readiness::Notify => return,
    };
    if time < spec.start_timeout {
        return;
    }
    let (time, limit) = (format_duration(time), format_duration(spec.start_timeout));
    let fault =
        Fault::error("ready-too-late", format!("{} can't become ready in time", table.title))
            .at(
                table.value_spot("ready"),
                format!("{what} {time}, but the start ends after {limit}"),
            )
            .help(format!("set start_timeout above {time}, or shorten this"));
    let own_limit = table.has_own("start_timeout").then(|| table.value_spot("start_timeout"));
    faults.push(match own_limit {
        Some(limit) => fault.also(limit, "the limit of the start"),
        None => fault,
    });
}

/// Files and sockets that several instances would fight over.
fn check_instances(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if spec.instances < 2 {
        return;
    }
    let pid_file = match &spec.kind {
        Kind::Forking { pid_file } => pid_file.as_ref(),
        Kind::Simple | Kind::Oneshot => None,
    };
    for (key, path) in [("pid_file", pid_file), ("log", spec.log.path.as_ref())] {
        let Some(path) = path else { continue };
        if !tells_instances_apart(&path.to_string_lossy()) && table.sound(&[key]) {
            let count = spec.instances;
            faults.push(
                Fault::error(
                    "instances-share-a-file",
                    format!("{count} instances would share one file"),
                )
                .at(table.value_spot(key), "the same for every instance")
                .help("put `{index}` into the file's name"),
            );
        }
    }
    let unshared = spec
        .process
        .sockets
        .iter()
        .find(|socket| matches!(socket.address, SocketAddress::Unix { .. }) && !socket.shared);
    if unshared.is_some() && table.sound(&["sockets"]) {
        let count = spec.instances;
        faults.push(
            Fault::error(
                "instances-share-a-socket",
                format!("{count} instances can't each have this socket"),
            )
            .at(table.value_spot("sockets"), "a Unix socket has one path")
            .help("add `shared = true`: every instance accepts from the same socket"),
        );
    }
}

/// The last instance still needs a port.
fn check_ports(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if !table.sound(&["instances", "port", "sockets"]) {
        return;
    }
    let instances = u32::from(spec.instances);
    // A successor beside each run needs a port of its own.
    let beside = spec.tolerance.replace.successor == Successor::Beside;
    let runs = if beside { 2 * instances } else { instances };
    let own = spec.process.port.map(|port| ("port", port, runs));
    let sockets = spec.process.sockets.iter().filter(|socket| !socket.shared);
    let ports = sockets.filter_map(|socket| match &socket.address {
        SocketAddress::Tcp(address) | SocketAddress::Udp(address) => {
            Some(("sockets", address.port(), instances))
        }
        SocketAddress::Unix { .. } => None,
    });
    for (key, first, count) in own.into_iter().chain(ports) {
        let last = count - 1;
        let highest = u32::from(first) + last;
        if u32::from(u16::MAX) < highest {
            let with = if count == instances { "" } else { " with their successors" };
            faults.push(
                Fault::error(
                    "ports-run-out",
                    format!("{instances} instances{with} need ports up to {highest}"),
                )
                .at(table.value_spot(key), format!("counting up from {first} passes 65535"))
                .also(table.key_spot("instances"), "the number of instances")
                .help(format!("begin at {} or lower", u32::from(u16::MAX) - last)),
            );
        }
    }
}
