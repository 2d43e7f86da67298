//! `wrk`, the load generator: runs until it is told to stop, and says what failed.
//!
//! Source: wrk(1); the lines `Socket errors` and `Non-2xx or 3xx responses` of its report, which
//! stand there only if there were any.

use crate::house::signal;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};

/// It ends by itself after this, should nobody stop it.
const LONGEST: &str = "1h";

/// At work. Dropping it kills it.
pub struct Wrk {
    child: Option<Child>,
}

/// What it has seen.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Report {
    /// Requests that were answered.
    pub requests: u64,
    /// Connections refused, broken or closed before an answer came, and answers that came too late.
    pub socket_errors: u64,
    /// Answers other than 2xx and 3xx.
    pub bad_answers: u64,
    /// Requests a second.
    pub per_second: f64,
    /// Latency that 99 % of the requests stay below, milliseconds.
    pub p99_ms: f64,
}

impl Report {
    /// Requests that failed in any way.
    pub fn failed(&self) -> u64 {
        self.socket_errors + self.bad_answers
    }
}

impl Wrk {
    /// Starts it: so many connections that are kept open, each with one request at a time.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start(url: &str, connections: usize) -> Result<Self> {
        let connections = connections.to_string();
        let child = Command::new("wrk")
            .args(["--threads", "1", "--connections", &connections, "--duration", LONGEST])
            .args(["--timeout", "10s", "--latency", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `wrk` (Debian package `wrk`)")?;
        Ok(Self { child: Some(child) })
    }

    /// Ends it; its report.
    ///
    /// # Errors
    /// It says nothing that can be understood.
    pub fn stop(mut self) -> Result<Report> {
        let child = self.child.take().context("it was stopped before")?;
        signal(child.id(), Signal::INT);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("wrk failed: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
        parse(&said).with_context(|| format!("wrk said something else: {said}"))
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn parse(said: &str) -> Option<Report> {
    let after = |mark: &str| said.lines().find_map(|line| line.trim().strip_prefix(mark));
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    let errors = after("Socket errors: ").unwrap_or_default();
    let errors = errors.split(", ").filter_map(|part| part.split_once(' '));
    Some(Report {
        requests: requests?.0.parse().ok()?,
        socket_errors: errors.filter_map(|(_, number)| number.parse::<u64>().ok()).sum(),
        bad_answers: after("Non-2xx or 3xx responses: ").map_or(Some(0), |it| it.parse().ok())?,
        per_second: after("Requests/sec:")?.trim().parse().ok()?,
        p99_ms: millis(after("99%")?.trim())?,
    })
}

/// `1.23ms`, `456.00us`, `1.02s`.
fn millis(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0)];
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_with_and_without_failures() {
        let good = "Running 1h test @ http://127.0.0.1:1/\n  1 threads and 4 connections\n\
            \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   1.0ms\n\
            \x20 Latency Distribution\n     50%  100.00us\n     99%    1.50ms\n\
            \x20 900 requests in 1.00s, 1.0MB read\nRequests/sec:    900.10\nTransfer/sec: 1MB\n";
        let report = parse(good).unwrap();
        assert_eq!((report.requests, report.failed(), report.p99_ms), (900, 0, 1.5));
        let bad = good.replace(
            "Requests/sec",
            "  Socket errors: connect 1, read 2, write 3, timeout 4\n  \
             Non-2xx or 3xx responses: 5\nRequests/sec",
        );
        let report = parse(&bad).unwrap();
        assert_eq!((report.socket_errors, report.bad_answers), (10, 5));
        assert!(parse("nothing").is_none());
    }
}
