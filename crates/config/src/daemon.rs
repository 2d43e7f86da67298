//! The daemon's own sections: `[daemon]`, `[console]`, `[journal]` and `[health]`.
//!
//! Invariant: every setting has a default; the only defaults that depend on the machine come from
//! the [`Context`].

use crate::diagnostic::{Fault, Faults};
use crate::settings::{ConsoleSettings, DaemonSettings, HealthSettings, JournalSettings};
use crate::table::{Node, Table};
use crate::value::{absolute_path, duration, line, size, socket_addr};
use base::ByteSize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path of a Unix socket, without its closing NUL (unix(7)).
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the console listens unless told otherwise.
const CONSOLE_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7490);

/// A node name becomes part of every event.
const NODE_BYTES_MAX: usize = 255;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What the defaults need to know about the machine; given by the caller, so that checking a
/// configuration touches nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The host name; the default of `daemon.node`.
    pub hostname: String,
    /// Holdfast runs (or would run) as root.
    pub is_root: bool,
    /// The user's home directory.
    pub home: PathBuf,
    /// `$XDG_STATE_HOME`, if set and absolute.
    pub xdg_state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, if set and absolute.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `--state-dir`: stronger than the configuration. Sockets then are in its `run` directory,
    /// unless `daemon.run_dir` is set.
    pub state_dir_override: Option<PathBuf>,
}

impl Context {
    fn state_dir(&self) -> PathBuf {
        match (self.is_root, &self.xdg_state_home) {
            (true, _) => PathBuf::from("/var/lib/holdfast"),
            (false, Some(state)) => state.join("holdfast"),
            (false, None) => self.home.join(".local/state/holdfast"),
        }
    }

    fn run_dir(&self, state_dir: &Path) -> PathBuf {
        match (self.is_root, &self.xdg_runtime_dir) {
            _ if self.state_dir_override.is_some() => state_dir.join("run"),
            (true, _) => PathBuf::from("/run/holdfast"),
            (false, Some(runtime)) => runtime.join("holdfast"),
            (false, None) => state_dir.join("run"),
        }
    }
}

/// Reads `[daemon]`.
pub(crate) fn read_daemon(
    table: &mut Table<'_>,
    context: &Context,
    faults: &mut Faults<'_>,
) -> DaemonSettings {
    let hostname = match context.hostname.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    };
    let node = table.read("node", hostname, faults, node_name);
    let configured = table.read("state_dir", context.state_dir(), faults, absolute_path);
    let state_dir = context.state_dir_override.clone().unwrap_or(configured);
    let run_dir = table.read("run_dir", context.run_dir(&state_dir), faults, absolute_path);
    let stall_limit = table.read("stall_limit", SECOND / 2, faults, |node, faults| {
        duration(node, Duration::from_millis(10)..=HOUR, faults)
    });
    let shutdown_timeout = table.read("shutdown_timeout", 90 * SECOND, faults, |node, faults| {
        duration(node, SECOND..=24 * HOUR, faults)
    });
    table.finish(faults);
    DaemonSettings { node, state_dir, run_dir, stall_limit, shutdown_timeout }
}

fn node_name(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = line(node, faults)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !name.is_empty() && name.len() <= NODE_BYTES_MAX && name.chars().all(plain) {
        return Some(name.to_owned());
    }
    faults.push(
        Fault::error("bad-name", "this can't be the name of a node")
            .at(node.spot, "not 1 to 255 letters, digits, `.`, `-` and `_`")
            .help("use the host name, which is the default"),
    );
    None
}

/// Reads `[console]`.
pub(crate) fn read_console(table: &mut Table<'_>, faults: &mut Faults<'_>) -> ConsoleSettings {
    let listen = table.read("listen", Some(CONSOLE_DEFAULT), faults, |node, faults| {
        if node.value.as_str() == Some("off") {
            return Some(None);
        }
        let address = socket_addr(node, faults)?;
        if !address.ip().is_loopback() {
            faults.push(
                Fault::warning("console-exposed", "the console can be reached from other machines")
                    .at(node.spot, "not a loopback address, and not encrypted")
                    .help(
                        "listen on 127.0.0.1 and use an SSH tunnel, or use [api.tcp], which has TLS",
                    ),
            );
        }
        Some(Some(address))
    });
    let sample_interval = table.read("sample_interval", 10 * SECOND, faults, |node, faults| {
        duration(node, SECOND..=HOUR, faults)
    });
    table.finish(faults);
    ConsoleSettings { listen, sample_interval }
}

/// Reads `[journal]`.
pub(crate) fn read_journal(table: &mut Table<'_>, faults: &mut Faults<'_>) -> JournalSettings {
    let age_max = table.read("age_max", 90 * DAY, faults, |node, faults| {
        duration(node, HOUR..=36_500 * DAY, faults)
    });
    let size_max = table.read("size_max", ByteSize::mib(512), faults, |node, faults| {
        size(node, ByteSize::mib(1)..=ByteSize::mib(1 << 24), faults)
    });
    table.finish(faults);
    JournalSettings { age_max, size_max }
}

/// Reads `[health]`.
pub(crate) fn read_health(table: &mut Table<'_>, faults: &mut Faults<'_>) -> HealthSettings {
    let [http, agent] = ["http", "agent"].map(|key| {
        table.read(key, None, faults, |node, faults| match node.value.as_str() {
            Some("off") => Some(None),
            _ => health_address(node, faults).map(Some),
        })
    });
    table.finish(faults);
    HealthSettings { http, agent }
}

fn health_address(node: Node<'_>, faults: &mut Faults<'_>) -> Option<SocketAddr> {
    let address = socket_addr(node, faults)?;
    if !address.ip().is_loopback() {
        faults.push(
            Fault::warning("health-exposed", "anybody who can connect may ask how services are")
                .at(node.spot, "not a loopback address")
                .help("fine if only balancers can connect; nothing can be changed there"),
        );
    }
    Some(address)
}
