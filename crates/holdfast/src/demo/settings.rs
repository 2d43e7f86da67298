//! The demo's configuration: what a person would write for the same services.

use std::net::SocketAddr;
use std::path::Path;

/// What differs from one demo to the next.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// Everything of this demo.
    pub(crate) dir: &'a Path,
    /// This binary.
    pub(crate) binary: &'a Path,
    /// Where the console listens.
    pub(crate) console: SocketAddr,
    /// Where the web service listens.
    pub(crate) web: SocketAddr,
    /// Where the store listens.
    pub(crate) store: SocketAddr,
}

/// The services, in the order of the tour.
pub(crate) const SERVICES: [&str; 7] =
    ["web", "store", "worker", "forker", "stubborn", "fragile", "flood"];

/// The variable that every service of a demo carries, so that none can be left behind.
pub(crate) const MARK: &str = "HOLDFAST_DEMO";

/// How many bytes the flood writes.
pub(crate) const FLOOD_BYTES: u64 = 64 * 1024 * 1024;

/// MiB of memory at which `web` is replaced: several times what it needs.
pub(crate) const LEAK_LIMIT: u32 = 96;

/// How often `fragile` may be restarted before Holdfast gives up.
pub(crate) const BUDGET: u32 = 3;

/// The file whose existence breaks `fragile`.
pub(crate) const BROKEN: &str = "broken";

/// The TOML text.
pub(crate) fn render(settings: &Settings<'_>) -> String {
    let Settings { dir, binary, console, web, store } = settings;
    let text = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let app = text(binary);
    let file = |name: &str| text(&dir.join(name));
    format!(
        r#"# The demo's configuration. `holdfast config show` prints it with every default filled in.
[daemon]
node = "demo"
state_dir = {state}
run_dir = {run}

[console]
listen = "{console}"
sample_interval = "1s"

[defaults]
env = {{ {MARK} = {mark} }}
directory = {mark}
restart = {{ when = "always", delay = "100ms", delay_max = "2s", healthy_after = "500ms", budget = 20, within = "60s" }}

[service.web]
description = "HTTP server on a socket kept open"
command = [{app}, "demo-app", "web"]
sockets = [{{ name = "http", tcp = "{web}" }}]
ready = {{ http = "http://{web}/health", interval = "20ms" }}

{tolerance}[service.store]
description = "TCP server that the worker needs"
command = [{app}, "demo-app", "store", "--listen", "{store}"]
ready = {{ tcp = "{store}", interval = "20ms" }}

[service.worker]
description = "Needs the store; fed watchdog"
command = [{app}, "demo-app", "worker", "--store", "{store}"]
requires = ["store"]
ready = "notify"
watchdog = "5s"

[service.forker]
description = "Forks twice into the background"
command = [{app}, "demo-app", "forker", "--pid-file", {pid_file}]
kind = "forking"
pid_file = {pid_file}

[service.stubborn]
description = "Ignores SIGTERM"
command = [{app}, "demo-app", "stubborn"]
stop = [{{ signal = "TERM", wait = "1s" }}]

[service.fragile]
description = "Exits at once while it is broken"
command = [{app}, "demo-app", "fragile", "--while-exists", {broken}]
restart = {{ when = "always", delay = "100ms", delay_max = "200ms", budget = {BUDGET}, within = "60s" }}

[service.flood]
description = "Floods its output when told"
command = [{app}, "demo-app", "flood", "--bytes", "{FLOOD_BYTES}B"]
log = {{ size = "256MiB", keep = 1, compress = false }}
"#,
        state = file("state"),
        run = file("run"),
        mark = text(dir),
        pid_file = file("forker.pid"),
        broken = file(BROKEN),
        tolerance = tolerance(*web),
    )
}

/// What hangs or leaks is replaced by a successor on the same socket.
fn tolerance(web: SocketAddr) -> String {
    format!(
        r#"# What hangs or leaks is replaced by a successor on the same socket.
[service.web.tolerance]
mode = "enforce"
interval = "1s"
successor = "beside"
settle = "0s"
drain = "1s"
evidence = {{ budget = "1s" }}

[service.web.detect.http]
url = "http://{web}/health"
interval = "250ms"
timeout = "250ms"
failures = 3

[service.web.detect.memory]
limit = "{LEAK_LIMIT}MiB"

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_has_neither_faults_nor_warnings() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let dir = Path::new("/tmp/holdfast \"demo\"");
        let binary = Path::new("/usr/bin/holdfast");
        let (console, web, store) = (address(1), address(2), address(3));
        let toml = render(&Settings { dir, binary, console, web, store });
        let context = crate::paths::machine_context(None);
        let loaded = config::parse(vec![("demo.toml".into(), toml)], &context);
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(false));
        let services = loaded.config.unwrap().services;
        for name in SERVICES {
            assert!(services.contains_key(&name.parse().unwrap()), "{name}");
        }
        assert_eq!(services.len(), SERVICES.len());
    }
}
