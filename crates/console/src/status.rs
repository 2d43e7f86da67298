//! What `status` shows: the root's snapshot with the newest sample of each instance; and the feed
//! that renders it once for everybody who watches.
//!
//! Why one feed: a page that watches a thousand services gets hundreds of kilobytes a time; a
//! second page must not make the root work, or us render, twice.
//! Invariants: at most [`PUSHES_PER_SECOND`] renderings a second; nothing is rendered while nobody
//! watches; a slow client gets the newest state, never a backlog.

use crate::App;
use crate::link::LinkError;
use crate::samples::Sample;
use control::{DutyView, InstanceView, Notice, Snapshot};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A person can't read faster, and bursts of events become one picture.
pub(crate) const PUSHES_PER_SECOND: u32 = 2;

/// Without any change a picture is pushed this often, so that a page knows it is alive.
const QUIET_PUSH: Duration = Duration::from_secs(15);

/// Everything that is to be seen.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Status {
    /// The node's name.
    pub node: String,
    /// Holdfast's version.
    pub version: String,
    /// The root process.
    pub pid: u32,
    /// Id of this boot of the machine.
    pub boot_id: String,
    /// When the root started, microseconds since the epoch.
    pub started_us: i64,
    /// When this was taken, microseconds since the epoch.
    pub taken_us: i64,
    /// State directory.
    pub state_dir: String,
    /// Address of the web console, if one is served.
    pub console: Option<String>,
    /// All services, by name.
    pub services: Vec<ServiceStatus>,
    /// Holdfast's own helper processes.
    pub duties: Vec<DutyView>,
    /// Standing notices: what does not work as one would expect, and the remedy.
    pub notices: Vec<Notice>,
    /// Events that could not be written, since the root started.
    pub events_lost: u64,
    /// True while services are being stopped for the end of the daemon.
    pub shutting_down: bool,
    /// The newest event's number: where a stream of events may begin.
    pub last_seq: u64,
}

/// One service.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// One line for people; may be empty.
    pub description: String,
    /// What it comes after.
    pub after: Vec<String>,
    /// What it requires.
    pub requires: Vec<String>,
    /// What it wants.
    pub wants: Vec<String>,
    /// Its command line.
    pub command: Vec<String>,
    /// It knows how to reload.
    pub can_reload: bool,
    /// Its instances, in order.
    pub instances: Vec<InstanceStatus>,
}

/// One instance.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InstanceStatus {
    /// As the root sees it.
    #[serde(flatten)]
    pub view: InstanceView,
    /// What it used last; nothing before the first look and while it has no process.
    pub sample: Option<Sample>,
}

/// A snapshot with samples and with what the console itself knows.
pub(crate) fn status(app: &App, snapshot: &Snapshot) -> Status {
    // Taken apart field by field, so that a new field of the snapshot can't be forgotten here.
    let Snapshot {
        node,
        version,
        pid,
        boot_id,
        started_us,
        taken_us,
        state_dir,
        console,
        services,
        duties,
        notices,
        events_lost,
        shutting_down,
    } = snapshot.clone();
    let mut notices = notices;
    notices.extend(app.history.tally().trouble().map(|trouble| Notice {
        code: "journal-unavailable".to_owned(),
        message: format!("events can't be stored in the journal: {trouble}"),
        help: "they wait in their files and are stored as soon as it works again".to_owned(),
    }));
    let rings = app.samples.lock();
    let services = services
        .into_iter()
        .map(|service| {
            with_samples(service, &|name| rings.get(name).and_then(crate::samples::Ring::last))
        })
        .collect();
    Status {
        node,
        version,
        pid,
        boot_id,
        started_us,
        taken_us,
        state_dir,
        console,
        services,
        duties,
        notices,
        events_lost,
        shutting_down,
        last_seq: app.history.tally().last_seq(),
    }
}

/// One service with samples.
pub(crate) fn with_samples(
    service: control::ServiceView,
    latest: &dyn Fn(&str) -> Option<Sample>,
) -> ServiceStatus {
    let instances = service
        .instances
        .into_iter()
        .map(|view| {
            // A sample of processes that are gone says nothing about now.
            let sample = view.pid.and_then(|_| latest(&view.name));
            InstanceStatus { view, sample }
        })
        .collect();
    ServiceStatus {
        name: service.name,
        description: service.description,
        after: service.after,
        requires: service.requires,
        wants: service.wants,
        command: service.command,
        can_reload: service.can_reload,
        instances,
    }
}

/// A fresh status as JSON.
pub(crate) async fn render(app: &App) -> Result<Arc<str>, LinkError> {
    let snapshot = app.snapshots.fresh().await?;
    let text = serde_json::to_string(&status(app, &snapshot));
    text.map(Arc::from).map_err(|_| LinkError::Unexpected)
}

/// Pictures for everybody who watches.
pub(crate) type Pictures = watch::Sender<Option<Arc<str>>>;

/// Renders pictures while somebody watches, until `shutdown`.
pub(crate) async fn feed(app: Arc<App>, shutdown: CancellationToken) {
    let mut watchers = app.watchers.subscribe();
    let mut changes = app.history.changes();
    let mut rounds = app.samples.rounds();
    let work = async {
        loop {
            if watchers.wait_for(|count| 0 < *count).await.is_err() {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = rounds.changed() => {}
                () = tokio::time::sleep(QUIET_PUSH) => {}
            }
            // Both may have changed: one picture shows both.
            changes.mark_unchanged();
            rounds.mark_unchanged();
            match render(&app).await {
                Ok(picture) => {
                    app.pictures.send_replace(Some(picture));
                }
                Err(error) => tracing::debug!(%error, "no picture for those who watch"),
            }
            tokio::time::sleep(Duration::from_secs(1) / PUSHES_PER_SECOND).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}
