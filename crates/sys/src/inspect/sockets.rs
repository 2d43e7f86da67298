//! The sockets of processes, with their queues, as ss(8) would show them.

use super::files;
use super::{Page, Room};
use crate::socket::{Counters, Diagnostics, SocketState, TcpSocket, UnixSocket};
use std::collections::{BTreeMap, BTreeSet};

/// In whatever state, but for the end of a connection that the kernel finishes alone (TIME-WAIT).
const STATES: u32 = !(1 << 6);

/// The sockets that processes hold, then the connections that wait to be accepted by them, by the
/// state they are in. Only of our own network namespace.
pub fn sockets(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    let mut holders: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for pid in pids {
        for descriptor in files::of_process(pids, *pid, &mut page) {
            let inode =
                descriptor.target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                let holder = format!("{}/{}", descriptor.pid, descriptor.number);
                holders.entry(inode).or_default().push(holder);
            }
        }
    }
    let mut list =
        List { page, room: *room, holders, ports: BTreeSet::new(), waiting: BTreeMap::new() };
    list.page
        .line(room, "KIND STATE      RECV-Q SEND-Q LOCAL <- PEER, BYTES ACKED/RECEIVED, PID/FD");
    if let Err(error) = list.ask() {
        list.page.miss(format!("the kernel does not tell about sockets: {error}"));
    }
    for ((port, state), number) in std::mem::take(&mut list.waiting) {
        let line = format!("not accepted on port {port}: {number} {state}");
        list.page.line(room, &line);
    }
    list.page.finished()
}

struct List {
    page: Page,
    room: Room,
    /// Process and descriptor, by inode.
    holders: BTreeMap<u32, Vec<String>>,
    /// On which they listen.
    ports: BTreeSet<u16>,
    /// Connections that nobody holds, by port and state.
    waiting: BTreeMap<(u16, &'static str), usize>,
}

impl List {
    fn ask(&mut self) -> std::io::Result<()> {
        let mut diagnostics = Diagnostics::open()?;
        diagnostics.tcp(crate::socket::LISTENING, Counters::NotWanted, |socket| {
            if self.holders.contains_key(&socket.inode) {
                self.ports.insert(socket.local.port());
            }
        })?;
        diagnostics.tcp(STATES, Counters::Wanted, |socket| self.inet("tcp", &socket))?;
        diagnostics.unix(STATES, |socket| self.unix(&socket))?;
        // A kernel without the module for these says so by an error, and has told the rest.
        let _ = diagnostics.udp(|socket| self.inet("udp", &socket));
        Ok(())
    }

    fn inet(&mut self, kind: &str, socket: &TcpSocket) {
        let Some(holders) = self.holders.get(&socket.inode) else {
            if socket.inode == 0 && kind == "tcp" && self.ports.contains(&socket.local.port()) {
                let key = (socket.local.port(), socket.state.as_str());
                *self.waiting.entry(key).or_default() += 1;
            }
            return;
        };
        let traffic = socket.traffic.filter(|_| socket.state != SocketState::Listening);
        let bytes = traffic.map_or_else(String::new, |traffic| {
            format!(" {}/{}", traffic.bytes_acked, traffic.bytes_received)
        });
        let line = format!(
            "{kind:4} {:10} {:6} {:6} {} <- {}{bytes} {}",
            socket.state.as_str(),
            socket.receive_queue,
            socket.send_queue,
            socket.local,
            socket.peer,
            holders.join(" ")
        );
        self.page.line(&self.room, &line);
    }

    fn unix(&mut self, socket: &UnixSocket<'_>) {
        let Some(holders) = self.holders.get(&socket.inode) else { return };
        let name = String::from_utf8_lossy(socket.name).replace('\0', "@").replace('\n', "\\n");
        let line = format!(
            "unix {:10} {:6} {:6} {} {}",
            socket.state.as_str(),
            socket.receive_queue,
            socket.send_queue,
            if name.is_empty() { "-" } else { &name },
            holders.join(" ")
        );
        self.page.line(&self.room, &line);
    }
}
