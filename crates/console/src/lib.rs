//! The console duty: HTTP API, server-sent events, metrics and the web pages; keeper of the journal.
//!
//! A process of its own below the root. It asks the root by the framed protocol of `control`, moves
//! the events that all processes write into the journal, samples memory and CPU, and serves all of
//! it over a Unix socket, the web console's loopback listener and, where configured, TCP with TLS.
//! Balancers ask it for verdicts on the services, by HTTP and by HAProxy's agent check.
//!
//! **Never**: starts, stops or signals a service itself (it asks the root, in the caller's name);
//! waits for the disk or the user database on its event loop; trusts a path that a client sent.
//! **Stands on**: `control`, `config`, `journal`, `sys`; axum, hyper, rustls.

mod access;
mod api;
mod counters;
mod fault;
mod guard;
mod health;
mod history;
mod link;
mod listen;
mod metrics;
mod pages;
mod patient;
mod sampler;
mod samples;
mod snapshots;
mod status;
mod streams;
mod tls;
mod trends;
mod visitor;

pub use access::{Names, SystemNames, role_of_anybody, role_of_peer};
pub use api::openapi;
pub use link::{LINK_DEADLINE, LINK_REQUESTS_MAX, LinkError, Pushed, RootLink};
pub use patient::Patient;
pub use tls::TlsError;

use health::HealthBook;
use health::agent::AgentDoor;
use history::{Behind, History, Note};
use listen::{HealthDoor, House, RemoteDoor, UnixDoor, WebDoor, keep_door};
use samples::SampleBook;
use snapshots::{Pulse, Snapshots};
use status::Pictures;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the doors may take to close: longer than a door gives its connections.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(3);

/// What the console is given by who starts it.
#[derive(Debug)]
pub struct Setup {
    /// The link to the root.
    pub root: UnixStream,
    /// The API's listening Unix socket.
    pub api: UnixListener,
    /// The web console's listener.
    pub http: Option<TcpListener>,
    /// The remote API's listener, with TLS unless it is on loopback.
    pub tcp: Option<(TcpListener, Option<config::TlsFiles>)>,
    /// The listener for balancers that ask by HTTP.
    pub health: Option<TcpListener>,
    /// The listener for HAProxy's agent checks.
    pub agent: Option<TcpListener>,
    /// Cursors of the other duties that read the events' segment files.
    pub other_readers: Vec<PathBuf>,
    /// Where the mail duty writes down how its queue stands; `None` without mail.
    pub mail_view: Option<PathBuf>,
    /// The effective configuration.
    pub config: config::Config,
}

/// Why the console can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket that was handed over can't be used.
    #[error("cannot use the {what} that was handed over")]
    Socket {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No thread can be started.
    #[error("cannot start a thread for the journal")]
    Thread(#[source] io::Error),
    /// The remote API's certificate or key is no good.
    #[error("cannot offer TLS on the remote API")]
    Tls(#[from] TlsError),
}

/// What handlers share.
pub(crate) struct App {
    pub(crate) config: config::Config,
    pub(crate) mail_view: Option<PathBuf>,
    pub(crate) root: RootLink,
    pub(crate) snapshots: Snapshots,
    pub(crate) pulse: Pulse,
    pub(crate) health: HealthBook,
    pub(crate) history: History,
    pub(crate) samples: SampleBook,
    pub(crate) trends: trends::TrendBook,
    pub(crate) streams: streams::Streams,
    pub(crate) counters: counters::Counters,
    /// How many watch the status.
    pub(crate) watchers: Arc<watch::Sender<usize>>,
    /// The newest status for those who watch.
    pub(crate) pictures: Pictures,
    /// Streams end when this is cancelled.
    pub(crate) shutdown: CancellationToken,
}

/// Serves until `shutdown`, or until the root has closed its end of the link. To be run on a
/// current-thread runtime with time and I/O enabled.
pub async fn serve(setup: Setup, shutdown: CancellationToken) -> Result<(), ServeError> {
    let Setup { root, api, http, tcp, health, agent, other_readers, mail_view, config } = setup;
    let root = tokio_unix(root)?;
    let doors = Doors::open(api, http, tcp, health, agent)?;
    let mut tasks = JoinSet::new();
    // The root's end is ours too: whoever waits for `shutdown` learns of both.
    let shutdown = shutdown.child_token();
    let (history, Behind { notes, finished }) =
        History::start(places(&config, other_readers)).map_err(ServeError::Thread)?;
    let root = RootLink::start(root, &mut tasks, shutdown.clone(), history.clone());
    let snapshots = Snapshots::start(root.clone(), &mut tasks);
    let app = Arc::new(App {
        health: HealthBook::start(snapshots.clone(), history.changes(), &mut tasks),
        snapshots,
        pulse: Pulse::feel(root.clone(), &mut tasks),
        samples: SampleBook::new(),
        trends: trends::TrendBook::default(),
        streams: streams::Streams::new(),
        counters: counters::Counters::default(),
        watchers: Arc::new(watch::Sender::new(0)),
        pictures: watch::Sender::new(None),
        shutdown: shutdown.clone(),
        config,
        mail_view,
        root,
        history: history.clone(),
    });
    tasks.spawn(subscribe(Arc::clone(&app)));
    tasks.spawn(record_notes(Arc::clone(&app), notes));
    tasks.spawn(sampler::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(status::feed(Arc::clone(&app), shutdown.clone()));
    let house = House {
        router: api::router(Arc::clone(&app)),
        settings: Arc::new(app.config.api.clone()),
        app,
        shutdown: shutdown.clone(),
    };
    let mut open_doors = JoinSet::new();
    doors.keep(house, &mut open_doors);
    shutdown.cancelled().await;
    history.stop();
    // Answers that are under way are finished; what only waits for the root is cut off.
    let closed = async { while open_doors.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE_DEADLINE, closed).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
    tasks.shutdown().await;
    if tokio::time::timeout(GOODBYE_DEADLINE, finished).await.is_err() {
        tracing::warn!("the journal was not closed in time; the next start reads the rest");
    }
    Ok(())
}

/// The listeners, taken over.
struct Doors {
    unix: UnixDoor,
    web: Option<WebDoor>,
    remote: Option<RemoteDoor>,
    health: Option<HealthDoor>,
    agent: Option<AgentDoor>,
}

impl Doors {
    fn open(
        api: UnixListener,
        http: Option<TcpListener>,
        tcp: Option<(TcpListener, Option<config::TlsFiles>)>,
        health: Option<TcpListener>,
        agent: Option<TcpListener>,
    ) -> Result<Self, ServeError> {
        let fail = |what| move |source| ServeError::Socket { what, source };
        api.set_nonblocking(true).map_err(fail("API socket"))?;
        let unix = UnixDoor(tokio::net::UnixListener::from_std(api).map_err(fail("API socket"))?);
        let web = match http {
            None => None,
            Some(listener) => {
                let local = listener.local_addr().map_err(fail("web console's listener"))?;
                let listener = tokio_tcp(listener).map_err(fail("web console's listener"))?;
                Some(WebDoor { listener, local })
            }
        };
        let remote = match tcp {
            None => None,
            Some((listener, files)) => {
                let tls = files.as_ref().map(tls::acceptor).transpose()?;
                let listener = tokio_tcp(listener).map_err(fail("remote API's listener"))?;
                Some(RemoteDoor { listener, tls })
            }
        };
        let health = health.map(tokio_tcp).transpose().map_err(fail("health listener"))?;
        let agent = agent.map(tokio_tcp).transpose().map_err(fail("listener for agent checks"))?;
        let (health, agent) = (health.map(HealthDoor), agent.map(AgentDoor));
        Ok(Self { unix, web, remote, health, agent })
    }

    fn keep(self, house: House, open: &mut JoinSet<()>) {
        if let Some(web) = self.web {
            open.spawn(keep_door(web, house.clone()));
        }
        if let Some(remote) = self.remote {
            open.spawn(keep_door(remote, house.clone()));
        }
        if let Some(health) = self.health {
            let router = health::own_router(Arc::clone(&house.app));
            open.spawn(keep_door(health, House { router, ..house.clone() }));
        }
        if let Some(agent) = self.agent {
            open.spawn(keep_door(agent, house.clone()));
        }
        open.spawn(keep_door(self.unix, house));
    }
}

fn tokio_unix(stream: UnixStream) -> Result<tokio::net::UnixStream, ServeError> {
    let fail = |source| ServeError::Socket { what: "link to the root", source };
    stream.set_nonblocking(true).map_err(fail)?;
    tokio::net::UnixStream::from_std(stream).map_err(fail)
}

fn tokio_tcp(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn places(config: &config::Config, other_readers: Vec<PathBuf>) -> history::Places {
    history::Places {
        events: config.daemon.state_dir.join("events"),
        journal: config.daemon.state_dir.join("journal.sqlite"),
        other_readers,
        retention: journal::Retention {
            age_max: config.journal.age_max,
            size_max: config.journal.size_max,
        },
    }
}

/// Asks the root to push its events, which are our nudges. Without them we would look late.
async fn subscribe(app: Arc<App>) {
    match app.root.ask(control::Request::Subscribe).await {
        Ok(control::Reply::Done { .. }) => {}
        Ok(control::Reply::Failed(fault)) => {
            tracing::error!(error = %fault, "the root does not push its events");
        }
        Ok(_) => tracing::error!("the root gave an answer to another question"),
        Err(error) => tracing::error!(%error, "cannot subscribe to the root's events"),
    }
}

/// Has the root record what the journal's thread found.
async fn record_notes(app: Arc<App>, mut notes: mpsc::Receiver<Note>) {
    while let Some(Note { kind, severity, message }) = notes.recv().await {
        let event = control::EventRecord {
            seq: 0,
            source: "console".to_owned(),
            source_seq: 0,
            wall_us: 0,
            mono_ns: 0,
            node: app.config.daemon.node.clone(),
            subject: "duty/console".to_owned(),
            kind: kind.to_owned(),
            severity,
            message,
            data: serde_json::Map::new(),
        };
        let request = control::Request::Record { event: Box::new(event) };
        if let Err(error) = app.root.ask(request).await {
            tracing::warn!(kind, %error, "cannot record an event");
        }
    }
}
