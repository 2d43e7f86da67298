//! Whose socket is it? Matches one dump of the kernel's sockets with all runs that are watched.
//!
//! A process's sockets are the links in its descriptor directory. Reading them costs about a
//! microsecond each, so they are remembered, and read again when the number of its descriptors has
//! changed, after a while, or when a socket turns up that nobody is known to have.
//! A connection that its program has not accepted yet is nobody's: it stands in the queue of its
//! listener, and counts nowhere else.
//!
//! Invariant: a run whose sockets can't be known (another network namespace, no right to read its
//! descriptors) gets no number at all.
//! Source: sock_diag(7), proc_pid_fd(5), network_namespaces(7).

use super::run::RunWatch;
use super::{RunSample, SocketSample, Unanswered, files};
use crate::socket::{
    CLOSE_WAIT, Counters, Diagnostics, ESTABLISHED, LISTENING, SocketState, TcpSocket,
};
use base::Now;
use rustix::fs::Dir;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Links are read again after this long in any case.
const READ_EVERY: Duration = Duration::from_mins(1);

/// Reading one process's links may take one part in so many of the time.
const COST_ONE_IN: u32 = 100;

/// Sockets of one process that are remembered. One with more is a leak that shows by its number.
const LINKS_MAX: usize = 65_536;

/// Sockets of unknown owners that are remembered from one round to the next.
const STRANGERS_MAX: usize = 65_536;

/// The sockets of one process.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Its descriptors, as counted in this round.
    pub(super) open_now: u64,
    open_then: u64,
    read: Option<Now>,
    cost: Duration,
    inodes: Vec<u32>,
    trouble: Option<&'static str>,
}

const ELSEWHERE: &str = "it is in another network namespace, whose sockets are not seen from here";
const REFUSED: &str = "its sockets can't be known: run holdfast as root or as its user";
const NO_ANSWER: &str = "the kernel does not tell about sockets (sock_diag(7))";

impl Links {
    fn is_due(&self, now: Now, demanded: bool) -> bool {
        let Some(read) = self.read else { return true };
        let age = now.since(read);
        let changed = demanded || self.open_now != self.open_then;
        READ_EVERY <= age || (changed && self.cost * COST_ONE_IN <= age)
    }

    fn read(&mut self, now: Now, own_network: Option<u64>, process: BorrowedFd<'_>) {
        self.inodes.clear();
        self.read = Some(now);
        self.open_then = self.open_now;
        let began = crate::clock::now();
        self.trouble = self.read_inodes(own_network, process).err();
        self.inodes.sort_unstable();
        self.cost = crate::clock::now().since(began);
    }

    fn read_inodes(
        &mut self,
        own_network: Option<u64>,
        process: BorrowedFd<'_>,
    ) -> Result<(), &'static str> {
        let network = files::inode_below(process, "ns/net").map_err(|_| REFUSED)?;
        if own_network.is_some_and(|own| own != network) {
            return Err(ELSEWHERE);
        }
        let directory = files::open_below(process, "fd").map_err(|_| REFUSED)?;
        let entries = Dir::read_from(&directory).map_err(|_| REFUSED)?;
        let mut target = [std::mem::MaybeUninit::uninit(); 64];
        for entry in entries.flatten().take(LINKS_MAX) {
            let link = rustix::fs::readlinkat_raw(&directory, entry.file_name(), &mut target);
            if let Ok((link, _)) = link
                && let Some(inode) = socket_inode(link)
            {
                self.inodes.push(inode);
            }
        }
        Ok(())
    }
}

/// `socket:[12345]`.
fn socket_inode(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    files::number(digits).and_then(|inode| u32::try_from(inode).ok())
}

/// What is kept between two rounds.
#[derive(Debug, Default)]
pub(super) struct SocketRound {
    diagnostics: Option<Diagnostics>,
    /// Sockets of which it is known that they are no run's.
    strangers: BTreeSet<u32>,
}

/// A run that wants its sockets to be known, and its sample if it is due in this round.
type Pair<'a> = (&'a mut RunWatch, Option<&'a mut RunSample>);

impl SocketRound {
    /// Puts the sockets into the samples.
    pub(super) fn fill(&mut self, now: Now, mut runs: Vec<Pair<'_>>) {
        if runs.iter().all(|(_, sample)| sample.is_none()) {
            return;
        }
        let own_network = own_network();
        for (run, sample) in &mut runs {
            if let Some(sample) = sample {
                read_links(now, own_network, run, false);
                match trouble(run) {
                    Some(why) => sample.cannot_tell(why),
                    None => sample.sockets = Some(nothing()),
                }
            }
        }
        if self.count(now, own_network, &mut runs).is_err() {
            // A socket that has failed once may fail for ever: the next round opens another.
            self.diagnostics = None;
            for sample in runs.iter_mut().filter_map(|(_, sample)| sample.as_mut()) {
                sample.sockets = None;
                sample.cannot_tell(NO_ANSWER);
            }
        }
    }

    fn count(
        &mut self,
        now: Now,
        own_network: Option<u64>,
        runs: &mut [Pair<'_>],
    ) -> std::io::Result<()> {
        let mut diagnostics = match self.diagnostics.take() {
            Some(open) => open,
            None => Diagnostics::open()?,
        };
        let mut owners = Owners::of(runs);
        let mut ports = Ports::default();
        diagnostics.tcp(LISTENING, Counters::NotWanted, |socket| {
            listener(&socket, &owners, &mut ports, runs);
        })?;
        let mut unknown = Vec::new();
        let mut strangers = BTreeSet::new();
        diagnostics.tcp(ESTABLISHED | CLOSE_WAIT, Counters::Wanted, |socket| {
            match owner(&socket, &owners, &ports) {
                Owner::Run(number) => connection(&socket, runs, number),
                Owner::Queue => waiting(&socket, &ports, runs),
                Owner::Unknown if self.strangers.contains(&socket.inode) => {
                    strangers.insert(socket.inode);
                }
                Owner::Unknown if unknown.len() < STRANGERS_MAX => unknown.push(socket),
                Owner::Unknown | Owner::Nobody => {}
            }
        })?;
        if !unknown.is_empty() {
            let mut all_read = true;
            for (run, _) in runs.iter_mut() {
                all_read &= read_links(now, own_network, run, true);
            }
            owners = Owners::of(runs);
            for socket in &unknown {
                match owners.of_inode(socket.inode).next() {
                    Some(number) => connection(socket, runs, number),
                    None if all_read => drop(strangers.insert(socket.inode)),
                    None => {}
                }
            }
        }
        self.strangers = strangers;
        count_unix(&mut diagnostics, &owners, runs)?;
        self.diagnostics = Some(diagnostics);
        Ok(())
    }
}

fn nothing() -> SocketSample {
    SocketSample {
        queue_waiting: Some(Duration::ZERO),
        unanswered: Some(Unanswered::default()),
        ..SocketSample::default()
    }
}

fn own_network() -> Option<u64> {
    let own = files::open_process(std::process::id()).ok()?;
    files::inode_below(own.as_fd(), "ns/net").ok()
}

/// Reads the links of those processes of a run whose turn it is. `true`: all are fresh now.
fn read_links(now: Now, own_network: Option<u64>, run: &mut RunWatch, demanded: bool) -> bool {
    let mut all_read = true;
    let mut ended = Vec::new();
    for (pid, process) in &mut run.processes {
        if process.links.read == Some(now) {
            continue;
        }
        if !process.links.is_due(now, demanded) {
            all_read = false;
            continue;
        }
        let read = process.in_directory(|process, directory| {
            process.links.read(now, own_network, directory);
        });
        if read.is_err() {
            ended.push(*pid);
        }
    }
    for pid in ended {
        run.processes.remove(&pid);
    }
    all_read
}

fn trouble(run: &RunWatch) -> Option<&'static str> {
    run.processes.values().find_map(|process| process.links.trouble)
}

/// Which run has which socket. A listening socket may be in several.
struct Owners(Vec<(u32, usize)>);

impl Owners {
    fn of(runs: &[Pair<'_>]) -> Self {
        let processes = runs.iter().enumerate().flat_map(|(number, (run, _))| {
            run.processes.values().map(move |process| (number, process))
        });
        let mut all: Vec<(u32, usize)> = processes
            .flat_map(|(number, process)| {
                process.links.inodes.iter().map(move |inode| (*inode, number))
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    fn of_inode(&self, inode: u32) -> impl Iterator<Item = usize> {
        let from = self.0.partition_point(|(other, _)| *other < inode);
        let rest = self.0.get(from..).unwrap_or(&[]);
        rest.iter().take_while(move |(other, _)| *other == inode).map(|(_, number)| *number)
    }
}

/// Who listens on which port, and on which of the machine's addresses.
#[derive(Default)]
struct Ports(BTreeMap<u16, Vec<(IpAddr, usize)>>);

impl Ports {
    /// The runs that accept connections to this end.
    fn accepting(&self, ip: IpAddr, port: u16) -> impl Iterator<Item = usize> {
        let listeners = self.0.get(&port).map_or(&[][..], Vec::as_slice);
        let ip = ip.to_canonical();
        let fits = move |at: &&(IpAddr, usize)| at.0.is_unspecified() || at.0 == ip;
        listeners.iter().filter(fits).map(|(_, number)| *number)
    }
}

/// Whose a connection is.
enum Owner {
    Run(usize),
    /// It waits to be accepted by whoever listens there.
    Queue,
    Nobody,
    /// Somebody's who has not been looked at closely enough.
    Unknown,
}

fn owner(socket: &TcpSocket, owners: &Owners, ports: &Ports) -> Owner {
    if socket.inode == 0 {
        // A connection that its program has closed would be in another state.
        return Owner::Queue;
    }
    let mut accepting = ports.accepting(socket.local.ip(), socket.local.port());
    match (accepting.next(), accepting.next()) {
        (Some(only), None) => return Owner::Run(only),
        // Nobody listens there: an outgoing connection, of which only the forgotten ones count.
        (None, _) if socket.state != SocketState::CloseWait => return Owner::Nobody,
        (_, _) => {}
    }
    owners.of_inode(socket.inode).next().map_or(Owner::Unknown, Owner::Run)
}

fn listener(socket: &TcpSocket, owners: &Owners, ports: &mut Ports, runs: &mut [Pair<'_>]) {
    for number in owners.of_inode(socket.inode) {
        let ip = socket.local.ip().to_canonical();
        let entry = (ip, number);
        let listeners = ports.0.entry(socket.local.port()).or_default();
        if !listeners.contains(&entry) {
            listeners.push(entry);
        }
        if let Some(sample) = sockets_of(runs, number) {
            sample.queue = sample.queue.saturating_add(socket.receive_queue);
            sample.queue_limit = sample.queue_limit.saturating_add(socket.send_queue);
        }
    }
}

fn connection(socket: &TcpSocket, runs: &mut [Pair<'_>], number: usize) {
    let Some(sample) = sockets_of(runs, number) else { return };
    let traffic = socket.traffic.unwrap_or_default();
    let is_left = socket.state == SocketState::CloseWait;
    if is_left {
        sample.close_wait = sample.close_wait.saturating_add(1);
    } else {
        sample.established = sample.established.saturating_add(1);
        sample.bytes_acked = sample.bytes_acked.saturating_add(traffic.bytes_acked);
        sample.bytes_received = sample.bytes_received.saturating_add(traffic.bytes_received);
    }
    let waits = traffic.last_received < traffic.last_sent || traffic.bytes_acked == 0;
    if let Some(unanswered) = sample.unanswered.as_mut().filter(|_| waits) {
        unanswered.connections = unanswered.connections.saturating_add(1);
        unanswered.longest = unanswered.longest.max(traffic.last_received);
    }
}

/// It has sent nothing yet, so that its last word is as old as itself.
fn waiting(socket: &TcpSocket, ports: &Ports, runs: &mut [Pair<'_>]) {
    let age = socket.traffic.unwrap_or_default().last_sent;
    for number in ports.accepting(socket.local.ip(), socket.local.port()) {
        if let Some(sample) = sockets_of(runs, number) {
            sample.queue_waiting = sample.queue_waiting.map(|longest| longest.max(age));
        }
    }
}

fn sockets_of<'s>(runs: &'s mut [Pair<'_>], number: usize) -> Option<&'s mut SocketSample> {
    runs.get_mut(number)?.1.as_mut()?.sockets.as_mut()
}

fn count_unix(
    diagnostics: &mut Diagnostics,
    owners: &Owners,
    runs: &mut [Pair<'_>],
) -> std::io::Result<()> {
    let mut names: BTreeSet<(usize, Vec<u8>)> = BTreeSet::new();
    diagnostics.unix(LISTENING, |socket| {
        for number in owners.of_inode(socket.inode) {
            names.insert((number, socket.name.to_vec()));
            if let Some(sample) = sockets_of(runs, number) {
                sample.queue = sample.queue.saturating_add(socket.receive_queue);
                sample.queue_limit = sample.queue_limit.saturating_add(socket.send_queue);
                // Of Unix sockets the kernel does not tell for how long anybody has waited.
                sample.queue_waiting = sample
                    .queue_waiting
                    .filter(|longest| socket.receive_queue == 0 || !longest.is_zero());
            }
        }
    })?;
    if names.is_empty() {
        return Ok(());
    }
    diagnostics.unix(ESTABLISHED, |socket| {
        for number in owners.of_inode(socket.inode) {
            // Accepted connections have the name of their listener, outgoing ones have none.
            let accepted = names.contains(&(number, socket.name.to_vec()));
            if let Some(sample) = sockets_of(runs, number).filter(|_| accepted) {
                sample.unanswered = sample.unanswered.filter(|_| 0 < sample.established);
                sample.established = sample.established.saturating_add(1);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_again_for_a_reason_and_not_too_often() {
        let at = |millis| Now::from_millis(millis);
        let mut links = Links::default();
        assert!(links.is_due(at(0), false));
        links.read = Some(at(0));
        links.cost = Duration::from_millis(5);
        assert!(!links.is_due(at(1000), false));
        links.open_now = 1;
        assert!(!links.is_due(at(499), false));
        assert!(links.is_due(at(500), false));
        links.open_now = 0;
        assert!(links.is_due(at(500), true));
        assert!(links.is_due(at(60_000), false));
        assert_eq!(socket_inode(b"socket:[42]"), Some(42));
        assert_eq!(socket_inode(b"pipe:[42]"), None);
        assert_eq!(socket_inode(b"socket:[99999999999]"), None);
    }

    #[test]
    fn a_connection_is_its_listeners_or_that_of_whoever_holds_it() {
        let at = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
        let socket = |state, inode, local: &str| TcpSocket {
            state,
            inode,
            local: at(local),
            peer: at("192.0.2.1:1"),
            receive_queue: 0,
            send_queue: 0,
            traffic: None,
        };
        let owners = Owners(vec![(7, 0), (8, 1), (9, 1)]);
        let mut ports = Ports::default();
        ports.0.insert(80, vec![(at("0.0.0.0:0").ip(), 0), (at("0.0.0.0:0").ip(), 1)]);
        ports.0.insert(81, vec![(at("127.0.0.1:0").ip(), 0)]);
        let ask = |state, inode, local: &str| match owner(
            &socket(state, inode, local),
            &owners,
            &ports,
        ) {
            Owner::Run(number) => format!("run {number}"),
            Owner::Queue => "queue".to_owned(),
            Owner::Nobody => "nobody".to_owned(),
            Owner::Unknown => "unknown".to_owned(),
        };
        let (up, left) = (SocketState::Established, SocketState::CloseWait);
        assert_eq!(ask(up, 99, "127.0.0.1:81"), "run 0");
        assert_eq!(ask(up, 99, "[::ffff:127.0.0.1]:81"), "run 0");
        assert_eq!(ask(up, 99, "127.0.0.2:81"), "nobody");
        assert_eq!(ask(up, 0, "127.0.0.1:81"), "queue");
        assert_eq!(ask(up, 8, "127.0.0.1:80"), "run 1");
        assert_eq!(ask(up, 99, "127.0.0.1:80"), "unknown");
        assert_eq!(ask(left, 9, "127.0.0.1:5000"), "run 1");
        assert_eq!(ask(left, 99, "127.0.0.1:5000"), "unknown");
    }
}
