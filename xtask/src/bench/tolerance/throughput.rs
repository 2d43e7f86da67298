//! What a service loses by being looked after: nothing that can be measured, it is hoped (H24).

use super::Tools;
use crate::report::say;
use crate::tool;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use trial::{House, Setting, Wrk, free_row};

/// Until somebody listens.
const READY_MAX: Duration = Duration::from_secs(20);

/// Connections of the load.
const CONNECTIONS: usize = 16;

/// Before it is measured.
const WARM: Duration = Duration::from_secs(1);

const KINDS: [&str; 4] = ["not supervised", "off", "observe", "enforce"];

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
    for round in 0..tools.effort.rounds {
        // Each begins a round once, so that no place in it is an advantage.
        for turn in 0..KINDS.len() {
            let kind = (round + turn) % KINDS.len();
            let per_second = one(tools, KINDS[kind])?;
            say(&format!("{:<15} {per_second:.0} requests a second", KINDS[kind]));
            figures[kind].push(per_second);
        }
    }
    let mut text = format!(
        "`demo-app web` under `wrk` with {CONNECTIONS} connections on the same machine, {} rounds of \
         {} s each, alternating; enforce and observe with http, backlog and memory detectors at 1 s.\n\n\
         | service | requests a second: median (range) |\n|---|---|\n",
        tools.effort.rounds, tools.effort.load_s
    );
    for (kind, figures) in KINDS.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let (low, high) = (figures.first().copied(), figures.last().copied());
        let median = figures.get(figures.len() / 2).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {kind} | {median:.0} ({:.0}–{:.0}) |",
            low.unwrap_or_default(),
            high.unwrap_or_default()
        );
    }
    Ok(text)
}

fn one(tools: &Tools, kind: &str) -> Result<f64> {
    let address = free_row(1)?;
    let _server = match kind {
        "not supervised" => Server::Alone(Alone::start(tools, address)?),
        mode => Server::Kept(kept(tools, address, mode)?),
    };
    let deadline = Instant::now() + READY_MAX;
    while TcpStream::connect(address).is_err() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let url = format!("http://{address}/");
    let load = |time: Duration| {
        let wrk = Wrk::start(&url, CONNECTIONS)?;
        std::thread::park_timeout(time);
        wrk.stop()
    };
    load(WARM)?;
    Ok(load(Duration::from_secs(tools.effort.load_s))?.per_second)
}

#[expect(dead_code, reason = "held while it is measured")]
enum Server {
    Alone(Alone),
    Kept(House),
}

struct Alone(Child);

impl Alone {
    fn start(tools: &Tools, address: SocketAddr) -> Result<Self> {
        let child = tool::command(&tools.programs.holdfast)
            .args(["demo-app", "web", "--listen", &address.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the service")?;
        Ok(Self(child))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kept(tools: &Tools, address: SocketAddr, mode: &str) -> Result<House> {
    let services = format!(
        "[service.web]\ncommand = [\"{}\", \"demo-app\", \"web\", \"--listen\", \"{address}\"]\n\
         tolerance = {{ mode = \"{mode}\", interval = \"1s\" }}\n\
         [service.web.detect]\nhttp = {{ url = \"http://{address}/health\", interval = \"1s\" }}\n\
         backlog = {{ queue = 100, connections = 100 }}\nmemory = {{ limit = \"1GiB\" }}\n",
        tools.programs.holdfast.display()
    );
    House::start(&tools.programs.holdfast, &Setting { services, ..Setting::default() })
}
