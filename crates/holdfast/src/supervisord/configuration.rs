//! The configuration: where it is read from, and how supervisord would tell it.
//!
//! Source: `getAllConfigInfo` of supervisor 4.2.5.

use super::house::House;
use crate::paths::{Paths, machine_context};
use config::{Config, Loaded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Readiness, RestartWhen, ServiceSpec, StopAction};
use supervisord::rpc::Value;
use supervisord::{Code, ProcessName, RpcFault};

/// The root writes the file anew within this time.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// supervisord's default, for everything: there is no such order here.
const PRIORITY: i64 = 999;

/// The user's files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    path: PathBuf,
    state_dir: Option<PathBuf>,
}

impl Files {
    /// As the root was given them.
    pub(crate) fn of(paths: &Paths) -> Option<Self> {
        let path = PathBuf::from(std::env::var_os("HOLDFAST_CONFIG")?);
        let given = std::env::var_os("HOLDFAST_STATE_DIR_GIVEN").is_some();
        Some(Self { path, state_dir: given.then(|| paths.state.clone()) })
    }

    /// Reads and checks them. May block.
    pub(crate) fn load(&self) -> Loaded {
        config::load(&self.path, &machine_context(self.state_dir.as_deref()))
    }
}

/// The configuration in force, as the root has written it down. May block.
pub(crate) fn in_force(path: &Path) -> Option<Config> {
    config::load(path, &machine_context(None)).config
}

impl House {
    /// Reads what is in force now.
    pub(crate) async fn read_in_force(&self) -> Result<(), RpcFault> {
        let path = self.paths.effective_config();
        let read = tokio::task::spawn_blocking(move || in_force(&path));
        match tokio::time::timeout(READ_DEADLINE, read).await {
            Ok(Ok(Some(config))) => {
                self.set_config(Arc::new(config));
                Ok(())
            }
            _ => Err(Code::Failed.of("the configuration in force can't be read")),
        }
    }

    /// `getAllConfigInfo`.
    pub(crate) async fn config_info(&self) -> Result<Value, RpcFault> {
        let on_list = self.processes().await?;
        let config = self.config();
        let mut all = Vec::new();
        for spec in config.services.values() {
            for instance in spec.instance_ids() {
                let name = instance.to_string();
                let is_in_use = on_list.iter().any(|seen| seen.view.name == name);
                let log = log_path(&self.paths, spec, &instance);
                all.push(config_value(spec, &ProcessName::of(&name), &log, is_in_use));
            }
        }
        Ok(Value::Array(all))
    }
}

/// Where the output of an instance goes.
pub(super) fn log_path(paths: &Paths, spec: &ServiceSpec, instance: &base::InstanceId) -> PathBuf {
    match &spec.log.path {
        Some(path) => spec.process.render(&path.to_string_lossy(), instance).into(),
        None => paths.logs().join(format!("{instance}.log")),
    }
}

fn config_value(spec: &ServiceSpec, name: &ProcessName, log: &Path, is_in_use: bool) -> Value {
    let text = |path: &Path| Value::Text(path.to_string_lossy().into_owned());
    let none = || Value::from("none");
    let is_listener = spec.listener.is_some();
    let (signal, wait) = first_stop(spec);
    let (stdout, stderr) = match (is_listener, spec.log.split_stderr) {
        (true, _) => (none(), text(log)),
        (false, true) => (text(log), text(&crate::logs::stream::stderr_path(log))),
        (false, false) => (text(log), none()),
    };
    let success = std::iter::once(0).chain(spec.restart.success_codes.iter().copied());
    let codes: std::collections::BTreeSet<i32> = success.collect();
    let size = i64::try_from(spec.log.size_max.0).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    let keep = i64::from(spec.log.keep);
    let events = spec.output_events;
    let capture = |bytes: base::ByteSize| i64::try_from(bytes.0).unwrap_or(i64::MAX).into();
    let tries = match spec.restart.when {
        RestartWhen::Never => 0,
        RestartWhen::Always | RestartWhen::OnFailure => i64::from(spec.restart.budget),
    };
    Value::members([
        ("autostart", spec.autostart.into()),
        ("directory", text(&spec.process.directory)),
        ("uid", spec.process.user.as_deref().unwrap_or("none").into()),
        ("command", shell_words::join(&spec.process.argv).into()),
        (
            "exitcodes",
            Value::Array(codes.into_iter().map(|code| Value::Int(code.into())).collect()),
        ),
        ("group", name.group.as_str().into()),
        ("group_prio", PRIORITY.into()),
        ("inuse", is_in_use.into()),
        ("killasgroup", true.into()),
        ("name", name.process.as_str().into()),
        ("process_prio", PRIORITY.into()),
        ("redirect_stderr", (!is_listener && !spec.log.split_stderr).into()),
        ("startretries", tries.min(i64::from(i32::MAX)).into()),
        ("startsecs", start_seconds(spec).into()),
        ("stdout_capture_maxbytes", capture(events.stdout_capture)),
        ("stdout_events_enabled", events.stdout.into()),
        ("stdout_logfile", stdout),
        ("stdout_logfile_backups", keep.into()),
        ("stdout_logfile_maxbytes", size.into()),
        ("stdout_syslog", false.into()),
        ("stopsignal", signal.into()),
        ("stopwaitsecs", wait.into()),
        ("stderr_capture_maxbytes", capture(events.stderr_capture)),
        ("stderr_events_enabled", events.stderr.into()),
        ("stderr_logfile", stderr),
        ("stderr_logfile_backups", keep.into()),
        ("stderr_logfile_maxbytes", size.into()),
        ("stderr_syslog", false.into()),
        ("serverurl", none()),
    ])
}

/// The first signal of the stop ladder, and how long it is given.
fn first_stop(spec: &ServiceSpec) -> (i64, i64) {
    const SIGTERM: i64 = 15;
    let first = spec.stop.first();
    let wait = first.map_or(0, |step| i64::try_from(step.wait.as_secs()).unwrap_or(i64::MAX));
    match first.map(|step| &step.action) {
        Some(StopAction::Signal(number)) => (i64::from(*number), wait),
        Some(StopAction::Command(_)) | None => (SIGTERM, wait),
    }
}

fn start_seconds(spec: &ServiceSpec) -> i64 {
    match spec.ready {
        Readiness::Delay(delay) => i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
        Readiness::Started | Readiness::Notify | Readiness::Probe { .. } => 0,
    }
}
