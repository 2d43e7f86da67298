//! The helper processes: takes what the root has passed and hands it to the room that does the
//! duty.

use super::duties::{CONSOLE, HOOKS, LOGS, MAIL, SUPERVISORD, WATCH, readers};
use crate::own_log;
use crate::own_loop::{duty_report, watched_runtime};
use crate::paths::Paths;
use crate::watch::effective;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The variable that names what was passed, as `name=fd,name=fd`.
const FDS_VARIABLE: &str = "HOLDFAST_FDS";

/// Runs one of the daemon's helper processes to its end.
pub(crate) fn duty(name: &str) -> anyhow::Result<()> {
    sys::memory::keep_small();
    let mut fds = sys::process::inherited_fds(FDS_VARIABLE);
    let root = fds
        .remove("root")
        .context("a duty is started by `holdfast run`, and can't be started by hand")?;
    let level = std::env::var("HOLDFAST_LOG").unwrap_or_else(|_| "info".to_owned());
    own_log::start(&level, own_log::Colour::Never);
    sys::process::ignore_sigpipe();
    // The logs duty alone holds two descriptors of each stream. The usual soft limit of 1024 would
    // end with the output of some 500 services, and block all others.
    sys::process::raise_nofile_limit();
    let state = directory("HOLDFAST_STATE_DIR")?;
    let run = directory("HOLDFAST_RUN_DIR")?;
    match name {
        CONSOLE => console(root, fds, &Paths { state, run }),
        MAIL => mail(root, &Paths { state, run }),
        LOGS => {
            // It must keep the output whatever stands in the configuration: what little it needs
            // comes by its environment.
            let variable = |name| std::env::var(name).unwrap_or_default();
            let limit = base::parse_duration(&variable("HOLDFAST_STALL_LIMIT"));
            let limit = limit.unwrap_or(std::time::Duration::from_millis(500));
            let report = duty_report(LOGS, state.join("events"), variable("HOLDFAST_NODE"));
            let (runtime, _detector) = watched_runtime(LOGS, limit, 4, report)?;
            crate::logs::run(&runtime, root, &state, &run)
        }
        SUPERVISORD => {
            let paths = Paths { state, run };
            let config = effective(&paths.state)?;
            let report = duty_report(SUPERVISORD, paths.events(), config.daemon.node.clone());
            let limit = config.daemon.stall_limit;
            let (runtime, _detector) = watched_runtime(SUPERVISORD, limit, 8, report)?;
            let setup = crate::supervisord::Setup { root, sockets: fds, paths, config };
            let ended = runtime.block_on(crate::supervisord::serve(setup));
            runtime.shutdown_background();
            ended
        }
        HOOKS => {
            let paths = crate::paths::Paths { state, run };
            let config = effective(&paths.state)?;
            let report = duty_report(HOOKS, paths.events(), config.daemon.node.clone());
            let limit = config.daemon.stall_limit;
            let (runtime, _detector) = watched_runtime(HOOKS, limit, 2, report)?;
            let setup = crate::hooks::Setup { root, paths, config };
            let ended = runtime.block_on(crate::hooks::serve(setup));
            runtime.shutdown_background();
            ended
        }
        WATCH => watch(root, state),
        other => anyhow::bail!("there is no duty called {other}"),
    }
}

fn directory(variable: &str) -> anyhow::Result<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).with_context(|| format!("{variable} is not set"))
}

/// Threads in which the watch duty waits for what may block: commands, disks, files, names, bundles.
/// Those that hang stay; a machine on which so many hang has no health to watch.
const WATCH_THREADS_MAX: usize = 64;

fn watch(root: OwnedFd, state: PathBuf) -> anyhow::Result<()> {
    let config = effective(&state)?;
    let node = config.daemon.node.clone();
    let report = duty_report(WATCH, state.join("events"), node.clone());
    let limit = config.daemon.stall_limit;
    let (runtime, _detector) = watched_runtime(WATCH, limit, WATCH_THREADS_MAX, report)?;
    let adopter = std::os::unix::process::parent_id();
    let result =
        crate::watch::run(&runtime, root, config, crate::watch::Options { state, node, adopter });
    // Whatever hangs in a thread must not hold up the end.
    runtime.shutdown_background();
    result
}

fn console(root: OwnedFd, mut fds: BTreeMap<String, OwnedFd>, paths: &Paths) -> anyhow::Result<()> {
    let state = &paths.state;
    let mut config = effective(state)?;
    let other_readers = readers(&config, paths);
    // What services there are it is told by the root.
    config.services.clear();
    let api = fds.remove("api").context("no `api` socket was passed")?;
    let tls = config.api.tcp.as_ref().and_then(|tcp| tcp.tls.clone());
    let report = duty_report(CONSOLE, state.join("events"), config.daemon.node.clone());
    let (runtime, _detector) = watched_runtime(CONSOLE, config.daemon.stall_limit, 8, report)?;
    let setup = console::Setup {
        root: UnixStream::from(root),
        api: UnixListener::from(api),
        http: fds.remove("http").map(TcpListener::from),
        tcp: fds.remove("tcp").map(|fd| (TcpListener::from(fd), tls)),
        health: fds.remove("health").map(TcpListener::from),
        agent: fds.remove("agent").map(TcpListener::from),
        other_readers,
        mail_view: config.mail.as_ref().map(|_| paths.mail_view()),
        config,
    };
    runtime.block_on(until_told(|stop| async { Ok(console::serve(setup, stop).await?) }))
}

fn mail(root: OwnedFd, paths: &Paths) -> anyhow::Result<()> {
    let config = effective(&paths.state)?;
    let mail = config.mail.clone().context("there is no [mail] in the configuration")?;
    let report = duty_report(MAIL, paths.events(), config.daemon.node.clone());
    let (runtime, _detector) = watched_runtime(MAIL, config.daemon.stall_limit, 8, report)?;
    let since_us = std::env::var("HOLDFAST_MAIL_SINCE_US").ok().and_then(|us| us.parse().ok());
    let setup = crate::mail::Setup { root: UnixStream::from(root), config, mail, since_us };
    let ended = runtime.block_on(until_told(|stop| crate::mail::serve(setup, stop)));
    // A name service that hangs is not waited for.
    runtime.shutdown_background();
    ended
}

/// Serves until its own end, or until SIGTERM and what it does then.
async fn until_told<F: Future<Output = anyhow::Result<()>>>(
    serve: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = serve(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        _ = terminate.recv() => stop.cancel(),
    }
    serving.await
}
