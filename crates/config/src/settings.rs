//! The daemon's own settings, checked, every default filled in. Services are in
//! [`supervisor::ServiceSpec`].

use base::{ByteSize, ServiceName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisor::ServiceSpec;

/// A whole configuration that has no fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: DaemonSettings,
    /// `[console]`.
    pub console: ConsoleSettings,
    /// `[api]`.
    pub api: ApiSettings,
    /// `[journal]`.
    pub journal: JournalSettings,
    /// `[health]`.
    pub health: HealthSettings,
    /// `[mail]`; `None` = no mail is sent.
    pub mail: Option<MailSettings>,
    /// `[supervisord]`; `None` = supervisord's interface is not served.
    pub supervisord: Option<SupervisordSettings>,
    /// `[hook.NAME]`.
    pub hooks: BTreeMap<ServiceName, HookSettings>,
    /// `[service.NAME]`.
    pub services: BTreeMap<ServiceName, Arc<ServiceSpec>>,
}

impl Config {
    /// supervisord's interface as it is served: as configured, and in any case by a Unix socket
    /// that holdfast's own user may use where there are event listeners, which ask by it.
    pub fn supervisord_face(&self) -> Option<SupervisordSettings> {
        let has_listeners = self.services.values().any(|service| service.listener.is_some());
        let mut face = match &self.supervisord {
            Some(face) => face.clone(),
            None if has_listeners => SupervisordSettings {
                unix: None,
                tcp: None,
                login: None,
                identifier: SUPERVISORD_IDENTIFIER.to_owned(),
            },
            None => return None,
        };
        if has_listeners && face.unix.is_none() {
            face.unix = Some((self.daemon.run_dir.join("supervisor.sock"), 0o600));
        }
        Some(face)
    }
}

/// What supervisord calls itself.
pub(crate) const SUPERVISORD_IDENTIFIER: &str = "supervisor";

/// `[daemon]`: the process itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSettings {
    /// This node's name in events. Default: the host name.
    pub node: String,
    /// Durable state: journal, logs, run records. Default: `/var/lib/holdfast`, or
    /// `$XDG_STATE_HOME/holdfast` (`~/.local/state/holdfast`) for an ordinary user.
    pub state_dir: PathBuf,
    /// Sockets. Default: `/run/holdfast`, or `$XDG_RUNTIME_DIR/holdfast`; where that is not set,
    /// `<state_dir>/run`.
    pub run_dir: PathBuf,
    /// A turn of one of our own event loops that takes longer is an event with a stack (D3).
    pub stall_limit: Duration,
    /// How long the whole shutdown may take before what is left gets SIGKILL.
    pub shutdown_timeout: Duration,
}

/// `[console]`: the web console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsoleSettings {
    /// Where it listens; `None` = no web console. Default `127.0.0.1:7490`.
    pub listen: Option<SocketAddr>,
    /// Pause between two samples of memory and CPU. Default 10 s.
    pub sample_interval: Duration,
}

/// `[api]`: who may ask, and from where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ApiSettings {
    /// Who may look and act, next to root and holdfast's own user.
    pub operators: Vec<Principal>,
    /// Who may look.
    pub viewers: Vec<Principal>,
    /// A TCP listener with TLS and tokens; `None` = none.
    pub tcp: Option<TcpApi>,
    /// Bearer tokens, stored hashed.
    pub tokens: Vec<Token>,
}

/// A local user or group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// `user:alice` or `user:1000`.
    User(String),
    /// `group:ops` or `group:1000`.
    Group(String),
    /// `everyone`.
    Everyone,
}

/// `[api.tcp]`: the API over TCP. TLS is required unless the address is a loopback one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpApi {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM; `None` only on loopback.
    pub tls: Option<TlsFiles>,
}

/// Certificate and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8 or SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// `[[api.token]]`: a bearer token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// For events and logs.
    pub name: String,
    /// SHA-256 of the token's text, which has 256 random bits (`holdfast token` makes one).
    pub sha256: [u8; 32],
    /// It may act, not only look.
    pub may_act: bool,
}

/// `[journal]`: how much history is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// Events older than this go. Default 90 days.
    pub age_max: Duration,
    /// The oldest events go when the database is larger. Default 512 MiB.
    pub size_max: ByteSize,
}

/// `[health]`: verdicts for balancers, from outside the services (H13, H14, H29). Nothing can be
/// changed through them, and whoever may connect may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HealthSettings {
    /// `GET /health/SERVICE` and nothing else is answered here; `None` = only by the console and
    /// the API. Default: none.
    pub http: Option<SocketAddr>,
    /// HAProxy's agent-check protocol; the balancer sends the service's or instance's name and a
    /// line end (`agent-send`). Default: none.
    pub agent: Option<SocketAddr>,
}

/// `[mail]`: who is told, and by which server (H9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailSettings {
    /// Whom; at least one.
    pub to: Vec<String>,
    /// From whom. Default `holdfast@<node>`.
    pub from: String,
    /// Host name or address of the server.
    pub host: String,
    /// Default: 465 with `tls`, 587 with `starttls`, else 25.
    pub port: u16,
    /// Default `tls` with port 465, `none` where the server is on loopback, else `starttls`.
    pub security: MailSecurity,
    /// PEM certificates that are trusted; `None` = the machine's own
    /// (`/etc/ssl/certs/ca-certificates.crt`).
    pub ca: Option<PathBuf>,
    /// User name for AUTH; `None` = no authentication.
    pub user: Option<String>,
    /// File that holds the password in its first line. Whoever sends opens it, and refuses it when
    /// others than holdfast's user may read it.
    pub password_file: Option<PathBuf>,
    /// The least severity that is mailed besides restarts. Default error.
    pub severity: supervisor::Severity,
    /// What happens within this time after a mail is collected into one digest. Default 1 min.
    pub digest: Duration,
    /// Undelivered mails that are kept; beyond it they are merged into one digest, so that nothing
    /// is lost. Default 1,000.
    pub queue_max: u32,
}

/// How the way to the mail server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// Not at all; beyond loopback never together with a user, and a warning.
    None,
    /// STARTTLS, required (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
}

/// `[supervisord]`: the XML-RPC interface for unmodified clients of supervisord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupervisordSettings {
    /// Path of a Unix socket, reachable by its file mode (default 0700); `None` = none. At least
    /// one of this and `tcp` is there.
    pub unix: Option<(PathBuf, u32)>,
    /// A TCP listener, loopback unless a login is set; `None` = none.
    pub tcp: Option<SocketAddr>,
    /// User name and password (SHA-256, as `[[api.token]]`) of HTTP basic authentication.
    pub login: Option<(String, [u8; 32])>,
    /// What `supervisorctl` sees as this supervisor's identifier. Default `supervisor`.
    pub identifier: String,
}

/// `[hook.NAME]`: a command that is told of events, as JSON on its standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookSettings {
    /// Program and arguments; never empty, no templates.
    pub argv: Vec<String>,
    /// Kinds of events: `service.exited`, or with a `*` at the end. At least one.
    pub events: Vec<String>,
    /// The least severity that it is told of. Default info.
    pub severity: supervisor::Severity,
    /// User name or number; `None` = holdfast's own.
    pub user: Option<String>,
    /// Killed after this long, with all that it started. Default 30 s.
    pub timeout: Duration,
}

impl HookSettings {
    /// Whether it is told of events of this kind and severity.
    pub fn wants(&self, kind: &str, severity: supervisor::Severity) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => kind == pattern,
        };
        self.severity <= severity && self.events.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor::Severity;

    #[test]
    fn a_hook_wants_what_its_patterns_say() {
        let hook = |events: &[&str], severity| HookSettings {
            argv: vec!["x".into()],
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            severity,
            user: None,
            timeout: Duration::ZERO,
        };
        let some = hook(&["service.*", "daemon.started"], Severity::Info);
        for (kind, wanted) in [
            ("service.exited", true),
            ("service.", true),
            ("daemon.started", true),
            ("daemon.started.x", false),
            ("services.x", false),
            ("daemon.stopped", false),
        ] {
            assert_eq!(some.wants(kind, Severity::Info), wanted, "{kind}");
        }
        let errors = hook(&["*"], Severity::Error);
        assert!(errors.wants("anything", Severity::Error));
        assert!(!errors.wants("anything", Severity::Warning));
    }
}
