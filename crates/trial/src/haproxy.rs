//! HAProxy in front of a service, told by the agent check who may have work.
//!
//! Source: HAProxy 2.6 configuration manual, `agent-check`, `agent-send`; management guide,
//! `show stat`.

use crate::house::LOOK_EVERY;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Until it has asked the agent about every server.
const SETTLED_MAX: Duration = Duration::from_secs(20);

/// At work. Dropping it kills it.
pub struct HaProxy {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl HaProxy {
    /// Starts it in `folder`: `front` → the ports of `service` on the loopback, each asked about
    /// at `agent`.
    ///
    /// # Errors
    /// It is not installed, or does not like what it is told.
    pub fn start(
        folder: &Path,
        front: SocketAddr,
        service: &str,
        ports: impl Iterator<Item = u16>,
        agent: SocketAddr,
    ) -> Result<Self> {
        let [socket, config, log] =
            ["haproxy.sock", "haproxy.cfg", "haproxy.log"].map(|name| folder.join(name));
        let mut text = format!(
            "global\n    stats socket {} level admin\n\
             defaults\n    mode http\n    timeout connect 2s\n    timeout client 30s\n    \
             timeout server 30s\n    \
             # What fails shall be seen, and not be tried again elsewhere.\n    \
             retries 0\n    option http-server-close\n\
             frontend front\n    bind {front}\n    default_backend {service}\n\
             backend {service}\n    balance roundrobin\n    \
             default-server agent-check agent-addr {} agent-port {} agent-inter 100ms\n",
            socket.display(),
            agent.ip(),
            agent.port(),
        );
        for port in ports {
            let _ = writeln!(
                text,
                "    server p{port} 127.0.0.1:{port} agent-send \"{service}@{port}\\n\""
            );
        }
        fs::write(&config, text)?;
        let out = fs::File::create(&log)?;
        let program =
            if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("cannot run `haproxy` (Debian package `haproxy`)")?;
        Ok(Self { child, socket, log })
    }

    /// Waits until exactly so many servers may have work.
    ///
    /// # Errors
    /// They do not; the error has what HAProxy thinks of each.
    pub fn wait_until(&mut self, up: usize) -> Result<()> {
        let deadline = Instant::now() + SETTLED_MAX;
        loop {
            let servers = self.servers();
            if let Ok(servers) = &servers
                && servers.iter().filter(|(_, status)| is_up(status)).count() == up
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("haproxy ended ({status}): {}", fs::read_to_string(&self.log)?);
            }
            if deadline < Instant::now() {
                bail!("not {up} servers have work: {servers:?}");
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// How many servers may have work now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn up(&self) -> Result<usize> {
        Ok(self.servers()?.iter().filter(|(_, status)| is_up(status)).count())
    }

    /// Each server, and what it thinks of it.
    fn servers(&self) -> Result<Vec<(String, String)>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(b"show stat\n")?;
        let mut csv = String::new();
        stream.read_to_string(&mut csv)?;
        servers(&csv).context("haproxy's statistics have no such columns")
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_up(status: &str) -> bool {
    // `UP`, `UP 1/3` (going down), `no check`.
    status.starts_with("UP") || status == "no check"
}

fn servers(csv: &str) -> Option<Vec<(String, String)>> {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| head.iter().position(|known| *known == name);
    let (name, status) = (column("svname")?, column("status")?);
    let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let all =
        rows.filter_map(|row| Some((row.get(name)?.to_string(), row.get(status)?.to_string())));
    Some(all.filter(|(name, _)| !["FRONTEND", "BACKEND"].contains(&name.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read() {
        let csv = "# pxname,svname,qcur,status,x\nfront,FRONTEND,,OPEN,\nweb,p1,0,UP,\n\
            web,p2,0,DOWN (agent),\nweb,p3,0,MAINT,\nweb,p4,0,UP 1/3,\nweb,BACKEND,0,UP,\n\n";
        let all = servers(csv).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all.iter().filter(|(_, status)| is_up(status)).count(), 2);
    }
}
