//! Where things lie in a state directory and in a run directory. Every path is made here.

use base::InstanceId;
use std::path::{Path, PathBuf};

/// The two directories of one daemon.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Durable state.
    pub state: PathBuf,
    /// Sockets.
    pub run: PathBuf,
}

impl Paths {
    /// Of a checked configuration.
    pub fn of(daemon: &config::DaemonSettings) -> Self {
        Self { state: daemon.state_dir.clone(), run: daemon.run_dir.clone() }
    }

    /// Held by the daemon that owns the state directory.
    pub fn lock(&self) -> PathBuf {
        self.state.join("holdfast.lock")
    }

    /// The daemon's own log with `--daemon`.
    pub fn own_log(&self) -> PathBuf {
        self.state.join("holdfast.log")
    }

    /// The configuration in force, for the duties and for people.
    pub fn effective_config(&self) -> PathBuf {
        self.state.join("effective.toml")
    }

    /// This state directory's own random name.
    pub fn identity(&self) -> PathBuf {
        self.state.join("id")
    }

    /// How many daemons have used this state directory.
    pub fn epoch(&self) -> PathBuf {
        self.state.join("epoch")
    }

    /// Event segment files.
    pub fn events(&self) -> PathBuf {
        self.state.join("events")
    }

    /// The journal database.
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal.sqlite")
    }

    /// Run records, one file an instance.
    pub fn records(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// One instance's run record.
    pub fn record(&self, instance: &InstanceId) -> PathBuf {
        self.records().join(format!("{instance}.json"))
    }

    /// The named pipes of the services' output.
    pub fn fifos(&self) -> PathBuf {
        self.state.join("fifo")
    }

    /// The services' output files.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Commands and queries.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The HTTP API.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Sockets for sd_notify messages.
    pub fn notify_dir(&self) -> PathBuf {
        self.run.join("notify")
    }

    /// One instance's socket for sd_notify messages.
    pub fn notify_socket(&self, instance: &InstanceId) -> PathBuf {
        self.notify_dir().join(format!("{instance}.sock"))
    }
}

/// The machine as far as defaults depend on it.
pub fn machine_context(state_dir: Option<&Path>) -> config::Context {
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
