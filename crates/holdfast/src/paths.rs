//! Where things lie in a state directory and in a run directory. Every path is made here.

use base::{InstanceId, RunId};
use std::path::{Path, PathBuf};
use supervisor::ServiceSpec;

/// The two directories of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Durable state.
    pub(crate) state: PathBuf,
    /// Sockets.
    pub(crate) run: PathBuf,
}

impl Paths {
    /// Of a checked configuration.
    pub(crate) fn of(daemon: &config::DaemonSettings) -> Self {
        Self { state: daemon.state_dir.clone(), run: daemon.run_dir.clone() }
    }

    /// Held by the daemon that owns the state directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.state.join("holdfast.lock")
    }

    /// The configuration in force, for the duties and for people.
    pub(crate) fn effective_config(&self) -> PathBuf {
        self.state.join("effective.toml")
    }

    /// This state directory's own random name.
    pub(crate) fn identity(&self) -> PathBuf {
        self.state.join("id")
    }

    /// How many daemons have used this state directory.
    pub(crate) fn epoch(&self) -> PathBuf {
        self.state.join("epoch")
    }

    /// Event segment files.
    pub(crate) fn events(&self) -> PathBuf {
        self.state.join("events")
    }

    /// Modes that operators set, and workarounds in force.
    pub(crate) fn care(&self) -> PathBuf {
        self.state.join("care.json")
    }

    /// The mail duty's own directory: cursor, queue, what was refused.
    pub(crate) fn mail(&self) -> PathBuf {
        self.state.join("mail")
    }

    /// Held by the mail duty at work.
    pub(crate) fn mail_lock(&self) -> PathBuf {
        self.mail().join("lock")
    }

    /// How the mail queue stands, for those who look.
    pub(crate) fn mail_view(&self) -> PathBuf {
        self.mail().join("status.json")
    }

    /// How far the mail duty has read the events.
    pub(crate) fn mail_cursor(&self) -> PathBuf {
        self.mail().join("cursor")
    }

    /// Run records: one file for each instance, and one more for each further run of it alive.
    pub(crate) fn records(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// The record of one run.
    pub(crate) fn record(&self, instance: &InstanceId, run: RunId) -> PathBuf {
        self.records().join(format!("{instance}.{run}.json"))
    }

    /// The named pipes of the services' output.
    pub(crate) fn fifos(&self) -> PathBuf {
        self.state.join("fifo")
    }

    /// What an event listener's run reads events from.
    pub(crate) fn listener_in(&self, instance: &InstanceId, run: RunId) -> PathBuf {
        self.fifos().join(format!("{instance}.{run}.in"))
    }

    /// What an event listener's run answers into.
    pub(crate) fn listener_out(&self, instance: &InstanceId, run: RunId) -> PathBuf {
        self.fifos().join(format!("{instance}.{run}.events"))
    }

    /// The services' output files.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Where one instance's output is kept.
    pub(crate) fn log(&self, instance: &InstanceId, spec: &ServiceSpec) -> PathBuf {
        match &spec.log.path {
            Some(path) => spec.process.render(&path.to_string_lossy(), instance).into(),
            None => self.logs().join(format!("{instance}.log")),
        }
    }

    /// Commands and queries.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The HTTP API.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Sockets for sd_notify messages.
    pub(crate) fn notify_dir(&self) -> PathBuf {
        self.run.join("notify")
    }

    /// One run's socket for sd_notify messages. Its number alone, which is never used again: a
    /// socket's path has at most 107 bytes (unix(7)).
    pub(crate) fn notify_socket(&self, run: RunId) -> PathBuf {
        self.notify_dir().join(format!("{run}.sock"))
    }
}

/// The machine as far as defaults depend on it.
pub(crate) fn machine_context(state_dir: Option<&Path>) -> config::Context {
    let directory =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    config::Context {
        hostname: sys::proc_fs::hostname(),
        is_root: sys::users::effective_uid() == 0,
        home: directory("HOME").unwrap_or_else(|| PathBuf::from("/")),
        xdg_state_home: directory("XDG_STATE_HOME"),
        xdg_runtime_dir: directory("XDG_RUNTIME_DIR"),
        state_dir_override: state_dir.map(Path::to_path_buf),
    }
}
