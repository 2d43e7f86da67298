//! Planned replacements, one after the other, under a constant load: how many requests fail?
//!
//! Source: requirements H20 (none), H22 (capacity), H5 (never two of a group).

use crate::haproxy::HaProxy;
use crate::house::{House, LOOK_EVERY, Setting};
use crate::wrk::{Report, Wrk};
use crate::{At, wrk};
use anyhow::{Context, Result, bail};
use control::{Request, ServiceAction};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// Connections of the load.
const CONNECTIONS: usize = 8;

/// One replacement, at its slowest.
const ONE_MAX: Duration = Duration::from_secs(30);

/// Until everything runs.
const READY_MAX: Duration = Duration::from_secs(30);

/// Ports that are tried for a row of free ones.
const ROWS_MAX: usize = 100;

/// What came of a soak.
#[derive(Clone, PartialEq, Debug)]
pub struct Soak {
    /// Replacements that were made.
    pub replacements: usize,
    /// What the load generator says.
    pub report: Report,
    /// For all of them.
    pub took: Duration,
    /// The most instances that should be there.
    pub instances: usize,
    /// The fewest that were in rotation at one moment, as Holdfast says.
    pub fewest: usize,
    /// The fewest that the balancer sent work to, if there was one.
    pub fewest_balanced: Option<usize>,
}

/// Where the successor comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overlap {
    /// Beside its predecessor.
    Beside,
    /// After it.
    After,
}

/// One instance that is passed its socket, without any balancer.
///
/// # Errors
/// A program is missing, or a replacement does not come to its end.
pub fn behind_a_socket(holdfast: &Path, replacements: usize) -> Result<Soak> {
    let address = free_row(1)?;
    let program = holdfast.display();
    let services = format!(
        "[service.web]\ncommand = \"{program} demo-app web\"\n\
         sockets = [{{ name = \"http\", tcp = \"{address}\" }}]\n\
         [service.web.tolerance]\nsuccessor = \"beside\"\ndrain = \"0s\"\n"
    );
    let mut house = House::start(holdfast, &Setting { services, ..Setting::default() })?;
    wait_until_up(&house, 1)?;
    let load = Wrk::start(&format!("http://{address}/"), CONNECTIONS)?;
    let begun = At::now();
    let mut soak = Soak::new(1);
    while soak.replacements < replacements {
        soak.replace(&mut house, None)?;
    }
    soak.took = At::now().since(begun);
    soak.report = load.stop()?;
    house.stop()?;
    Ok(soak)
}

/// Two instances behind HAProxy, which learns by the agent check who may have work.
///
/// # Errors
/// As above.
pub fn behind_haproxy(holdfast: &Path, replacements: usize, overlap: Overlap) -> Result<Soak> {
    let (front, agent, first) = (free_row(1)?, free_row(1)?, free_row(4)?);
    let (program, port) = (holdfast.display(), first.port());
    let (successor, ports) = match overlap {
        Overlap::Beside => ("beside", 4),
        Overlap::After => ("after", 2),
    };
    let services = format!(
        "[health]\nagent = \"{agent}\"\n\
         [service.web]\ncommand = \"{program} demo-app web --listen 127.0.0.1:{{port}}\"\n\
         port = {port}\ninstances = 2\n\
         ready = {{ http = \"http://127.0.0.1:{{port}}/health\", interval = \"20ms\" }}\n\
         [service.web.tolerance]\nsuccessor = \"{successor}\"\nsettle = \"400ms\"\n\
         drain = \"2s\"\n"
    );
    let mut house = House::start(holdfast, &Setting { services, ..Setting::default() })?;
    wait_until_up(&house, 2)?;
    let ports = port..port + ports;
    let mut haproxy = HaProxy::start(house.dir(), front, "web", ports, agent)?;
    haproxy.wait_until(2)?;
    let load = Wrk::start(&format!("http://{front}/"), CONNECTIONS)?;
    let begun = At::now();
    let mut soak = Soak::new(2);
    while soak.replacements < replacements {
        soak.replace(&mut house, Some(&haproxy))?;
    }
    soak.took = At::now().since(begun);
    soak.report = load.stop()?;
    drop(haproxy);
    house.stop()?;
    Ok(soak)
}

impl Soak {
    fn new(instances: usize) -> Self {
        Self {
            replacements: 0,
            report: Report::default(),
            took: Duration::ZERO,
            instances,
            fewest: instances,
            fewest_balanced: None,
        }
    }

    /// Asks for the replacement of all instances, and watches until each is done.
    fn replace(&mut self, house: &mut House, balancer: Option<&HaProxy>) -> Result<()> {
        let begun = At::now();
        house.act(ServiceAction::Replace, "web")?;
        let mut left = self.instances;
        let mut from = begun;
        while 0 < left {
            if ONE_MAX < At::now().since(from) {
                bail!("a replacement does not come to its end:\n{}", house.log());
            }
            let done = house.wait_event(from, LOOK_EVERY, |it| it.kind == "service.replaced")?;
            if let Some(done) = done {
                from = At::of(&done) + Duration::from_nanos(1);
                self.replacements += 1;
                left -= 1;
            }
            self.look(house, balancer)?;
        }
        house.events.clear();
        Ok(())
    }

    fn look(&mut self, house: &House, balancer: Option<&HaProxy>) -> Result<()> {
        self.fewest = self.fewest.min(in_rotation(house)?);
        if let Some(balancer) = balancer {
            let up = balancer.up()?;
            self.fewest_balanced = Some(self.fewest_balanced.map_or(up, |fewest| fewest.min(up)));
        }
        Ok(())
    }

    /// One line.
    pub fn text(&self) -> String {
        let wrk::Report { requests, socket_errors, bad_answers, per_second, p99_ms } = self.report;
        let balanced = self
            .fewest_balanced
            .map_or_else(String::new, |fewest| format!(", with work from the balancer: {fewest}"));
        format!(
            "{} replacements in {:.1} s: {requests} requests ({per_second:.0} a second, 99 % \
             within {p99_ms:.1} ms), {} failed ({socket_errors} connections, {bad_answers} \
             answers); never fewer than {} of {} in rotation{balanced}",
            self.replacements,
            self.took.as_secs_f64(),
            self.report.failed(),
            self.fewest,
            self.instances,
        )
    }
}

/// Instances that balancers may send work to.
fn in_rotation(house: &House) -> Result<usize> {
    let snapshot = house.snapshot()?;
    let all = snapshot.services.iter().flat_map(|service| &service.instances);
    Ok(all.filter(|instance| instance.health.status < 400).count())
}

fn wait_until_up(house: &House, instances: usize) -> Result<()> {
    house.ask(Request::Ping)?;
    let up = |house: &House| Ok(in_rotation(house)? == instances);
    house.wait_for("all instances are in rotation", READY_MAX, up)
}

/// The first of so many free ports of the loopback in a row.
///
/// # Errors
/// There is no such row.
pub fn free_row(ports: u16) -> Result<SocketAddr> {
    for _ in 0..ROWS_MAX {
        let first = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let last = first.port().checked_add(ports - 1);
        let mut row = first.port()..=last.unwrap_or(0);
        if last.is_some() && row.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(first);
        }
    }
    None.context("there is no row of free ports")
}
