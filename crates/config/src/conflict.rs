//! Things that two parts of the configuration can't both have: addresses and log files; and
//! limits of the whole that one service breaks.

use crate::daemon::SOCKET_PATH_BYTES_MAX;
use crate::diagnostic::{Fault, Faults};
use crate::service::{Binding, Draft};
use crate::settings::{Config, DaemonSettings};
use crate::source::Spot;
use base::format_duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use supervisor::{ServiceSpec, SocketAddress};

/// The daemon's own listeners, with their places where they are set.
pub(crate) struct Listeners {
    pub(crate) console: Option<Spot>,
    pub(crate) api_tcp: Option<Spot>,
    pub(crate) health_http: Option<Spot>,
    pub(crate) health_agent: Option<Spot>,
    pub(crate) supervisord_tcp: Option<Spot>,
    pub(crate) supervisord_unix: Option<Spot>,
}

/// Checks everything.
pub(crate) fn check(
    drafts: &[Draft],
    settings: &Config,
    listeners: &Listeners,
    faults: &mut Faults<'_>,
) {
    let mut claims = daemon_claims(settings, listeners);
    claims.extend(drafts.iter().flat_map(service_claims));
    check_ports(claims, faults);
    check_unix_paths(drafts, settings, listeners, faults);
    check_log_files(drafts, faults);
    for draft in drafts {
        check_stop_time(draft, &settings.daemon, faults);
        check_notify_path(draft, &settings.daemon, faults);
    }
}

/// What a claimed port is known to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Protocol {
    Tcp,
    Udp,
    /// From the `port` key: the service itself decides.
    Unknown,
}

/// A range of ports that somebody listens on.
#[derive(Clone, Debug)]
struct Claim {
    protocol: Protocol,
    ip: Option<IpAddr>,
    first: u16,
    last: u16,
    owner: String,
    spot: Option<Spot>,
}

fn daemon_claims(settings: &Config, listeners: &Listeners) -> Vec<Claim> {
    let health = &settings.health;
    let (api, face) = (settings.api.tcp.as_ref(), settings.supervisord.as_ref());
    [
        ("the web console", settings.console.listen, listeners.console),
        ("the API", api.map(|tcp| tcp.listen), listeners.api_tcp),
        ("the health endpoint", health.http, listeners.health_http),
        ("the agent check", health.agent, listeners.health_agent),
        ("supervisord's interface", face.and_then(|face| face.tcp), listeners.supervisord_tcp),
    ]
    .into_iter()
    .filter_map(|(owner, address, spot)| {
        let address: SocketAddr = address.filter(|address: &SocketAddr| address.port() != 0)?;
        Some(Claim {
            protocol: Protocol::Tcp,
            ip: Some(address.ip()),
            first: address.port(),
            last: address.port(),
            owner: owner.to_owned(),
            spot,
        })
    })
    .collect()
}

fn service_claims(draft: &Draft) -> impl Iterator<Item = Claim> + '_ {
    let owner = format!("service `{}`", draft.spec.name);
    draft.bindings.iter().filter_map(move |binding| {
        let (protocol, ip, first, count, spot) = match binding {
            Binding::Ports { first, count, spot } => {
                (Protocol::Unknown, None, *first, *count, *spot)
            }
            Binding::Socket { address: SocketAddress::Tcp(at), count, spot } => {
                (Protocol::Tcp, Some(at.ip()), at.port(), *count, *spot)
            }
            Binding::Socket { address: SocketAddress::Udp(at), count, spot } => {
                (Protocol::Udp, Some(at.ip()), at.port(), *count, *spot)
            }
            Binding::Socket { address: SocketAddress::Unix { .. }, .. } => return None,
        };
        let last = first.saturating_add(count.saturating_sub(1));
        Some(Claim { protocol, ip, first, last, owner: owner.clone(), spot: Some(spot) })
    })
}

/// Sweeps over the ports; a claim that collides is reported once and not compared with again.
fn check_ports(mut claims: Vec<Claim>, faults: &mut Faults<'_>) {
    claims.sort_by_key(|claim| (claim.first, claim.spot));
    let mut active: Vec<Claim> = Vec::new();
    for claim in claims {
        active.retain(|earlier| claim.first <= earlier.last);
        match active.iter().find(|earlier| collide(earlier, &claim)) {
            Some(earlier) => report_collision(earlier, &claim, faults),
            None => active.push(claim),
        }
    }
}

fn collide(a: &Claim, b: &Claim) -> bool {
    let unknown = a.protocol == Protocol::Unknown || b.protocol == Protocol::Unknown;
    if unknown {
        // A service may well probe or announce, by `{port}`, a socket of its own.
        return a.owner != b.owner && b.protocol != Protocol::Udp && a.protocol != Protocol::Udp;
    }
    a.protocol == b.protocol && ips_collide(a.ip, b.ip)
}

/// The same address, or one that stands for all of them. `[::]` takes IPv4 too on Linux.
fn ips_collide(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let all = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
    a == b || all(a, b) || all(b, a)
}

fn report_collision(a: &Claim, b: &Claim, faults: &mut Faults<'_>) {
    // The daemon's own listener may be a default and stand nowhere: point at the other one.
    let (earlier, later) = if b.spot.is_none() { (b, a) } else { (a, b) };
    let Some(spot) = later.spot else { return };
    let port = a.first.max(b.first);
    let unknown = a.protocol == Protocol::Unknown || b.protocol == Protocol::Unknown;
    let (owner, other) = (&later.owner, &earlier.owner);
    let message = if owner == other {
        format!("{owner} listens on port {port} twice")
    } else {
        format!("{owner} and {other} both want port {port}")
    };
    let fault = if unknown {
        Fault::warning("port-overlap", message)
            .help("fine if they listen on different addresses; else choose other ports")
    } else {
        Fault::error("duplicate-address", message)
            .help("only one of them can listen there: choose another address or port")
    };
    let fault = fault.at(spot, format!("port {port} is taken by {other}"));
    faults.push(match earlier.spot {
        Some(first) => fault.also(first, "taken here"),
        None => fault,
    });
}

fn check_unix_paths(
    drafts: &[Draft],
    settings: &Config,
    listeners: &Listeners,
    faults: &mut Faults<'_>,
) {
    let mut first = BTreeMap::new();
    let face = settings.supervisord.as_ref().and_then(|face| face.unix.as_ref());
    if let (Some((path, _)), Some(spot)) = (face, listeners.supervisord_unix) {
        first.insert(path, ("supervisord's interface".to_owned(), spot));
    }
    for draft in drafts {
        for binding in &draft.bindings {
            let Binding::Socket { address: SocketAddress::Unix { path, .. }, spot, .. } = binding
            else {
                continue;
            };
            match first.get(path) {
                None => {
                    first.insert(path, (format!("service `{}`", draft.spec.name), *spot));
                }
                Some((owner, earlier)) => faults.push(
                    Fault::error(
                        "duplicate-address",
                        format!("two sockets have the path {}", path.display()),
                    )
                    .at(*spot, format!("taken by {owner}"))
                    .also(*earlier, "taken here")
                    .help("choose another path"),
                ),
            }
        }
    }
}

fn check_log_files(drafts: &[Draft], faults: &mut Faults<'_>) {
    let mut first: BTreeMap<String, (&Draft, Spot)> = BTreeMap::new();
    for draft in drafts {
        let (Some(path), Some(spot)) = (&draft.spec.log.path, draft.log_spot) else { continue };
        let file = path.to_string_lossy().replace("{name}", draft.spec.name.as_str());
        match first.get(&file) {
            None => _ = first.insert(file, (draft, spot)),
            Some((earlier, earlier_spot)) => {
                let (one, two) = (&earlier.spec.name, &draft.spec.name);
                faults.push(
                    Fault::error(
                        "log-file-shared",
                        format!("services `{one}` and `{two}` write to the same log file"),
                    )
                    .at(spot, format!("also the log of `{one}`"))
                    .also(*earlier_spot, format!("the log of `{one}`"))
                    .help("give each its own file, for example with `{name}` in it"),
                );
            }
        }
    }
}

fn check_stop_time(draft: &Draft, daemon: &DaemonSettings, faults: &mut Faults<'_>) {
    let ladder = crate::service::ladder_time(&draft.spec.stop);
    if daemon.shutdown_timeout < ladder {
        let (name, limit) = (&draft.spec.name, format_duration(daemon.shutdown_timeout));
        let ladder = format_duration(ladder);
        faults.push(
            Fault::warning(
                "stop-longer-than-shutdown",
                format!("service `{name}` may be killed early"),
            )
            .at(draft.stop_spot, format!("takes up to {ladder}, a shutdown only {limit}"))
            .help(format!("set daemon.shutdown_timeout to {ladder} or more")),
        );
    }
}

/// Every instance has a socket `<run_dir>/notify/<instance>.sock`.
fn check_notify_path(draft: &Draft, daemon: &DaemonSettings, faults: &mut Faults<'_>) {
    let Some(last) = last_instance(&draft.spec) else { return };
    let bytes = daemon.run_dir.as_os_str().as_bytes().len() + "/notify/.sock".len() + last.len();
    if SOCKET_PATH_BYTES_MAX < bytes {
        faults.push(
            Fault::error(
                "socket-path-too-long",
                format!("the socket of `{last}` has too long a path"),
            )
            .at(
                draft.spot,
                format!(
                    "{}/notify/{last}.sock: {bytes} bytes, Linux takes {SOCKET_PATH_BYTES_MAX}",
                    daemon.run_dir.display()
                ),
            )
            .help("choose a shorter daemon.run_dir, or a shorter name"),
        );
    }
}

fn last_instance(spec: &ServiceSpec) -> Option<String> {
    spec.instance_ids().last().map(|instance| instance.to_string())
}
