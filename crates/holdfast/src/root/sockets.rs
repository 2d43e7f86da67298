//! Listening sockets that outlive the services they are passed to: a restart refuses no
//! connection, because the socket stays open here and connections wait in its queue.

use base::InstanceId;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use supervisor::{ProcessSpec, SocketAddress, SocketSpec};
use sys::socket::{Address, ListenError};

/// What a socket is known by: service, socket name, and the instance unless it is shared.
type SocketKey = (String, String, Option<u16>);

type OpenSockets = BTreeMap<SocketKey, (SocketAddress, Arc<OwnedFd>)>;

/// All open listening sockets, shared by the hands and the driver.
#[derive(Clone, Default)]
pub(crate) struct SocketStore {
    /// Held by the hand that opens sockets, so that two never open the same one. Apart from
    /// `open`, for which the loop waits: finding out who holds an address in use takes its time.
    opening: Arc<Mutex<()>>,
    open: Arc<Mutex<OpenSockets>>,
}

impl SocketStore {
    /// The sockets of one instance, in the order of its spec; opened if they are not yet.
    pub(crate) fn for_instance(
        &self,
        process: &ProcessSpec,
        instance: &InstanceId,
    ) -> Result<Vec<Arc<OwnedFd>>, ListenError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed = Vec::with_capacity(process.sockets.len());
        for socket in &process.sockets {
            let key = key_of(socket, instance);
            let wanted = address_of(socket, instance);
            let fd = match self.take_held(&key, &wanted) {
                Some(fd) => fd,
                None => {
                    let fd = Arc::new(sys::socket::listen(&to_sys(&wanted), socket.backlog)?);
                    give_away(&wanted)?;
                    let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                    open.insert(key, (wanted, Arc::clone(&fd)));
                    fd
                }
            };
            passed.push(fd);
        }
        Ok(passed)
    }

    /// A socket that is open already; one at another address than wanted is closed.
    fn take_held(&self, key: &SocketKey, wanted: &SocketAddress) -> Option<Arc<OwnedFd>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.get(key).filter(|(address, _)| address == wanted);
        let fd = held.map(|(_, fd)| Arc::clone(fd));
        if fd.is_none() {
            open.remove(key);
        }
        fd
    }

    /// Takes over a socket that an earlier daemon had opened.
    pub(crate) fn put(&self, socket: &SocketSpec, instance: &InstanceId, fd: OwnedFd) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let value = (address_of(socket, instance), Arc::new(fd));
        open.entry(key_of(socket, instance)).or_insert(value);
    }

    /// Whether a socket is open.
    pub(crate) fn holds(&self, socket: &SocketSpec, instance: &InstanceId) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.contains_key(&key_of(socket, instance))
    }

    /// Closes the sockets that one instance has for itself.
    pub(crate) fn close_of_instance(&self, instance: &InstanceId) {
        self.close(|name, index| name == instance.service.as_str() && index == instance.index);
    }

    /// Closes all sockets of a service.
    pub(crate) fn close_of_service(&self, service: &str) {
        self.close(|name, _| name == service);
    }

    fn close(&self, is_meant: impl Fn(&str, Option<u16>) -> bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(name, _, index), (address, _)| {
            let keep = !is_meant(name, *index);
            if let (false, SocketAddress::Unix { path, .. }) = (keep, &*address) {
                let _ = std::fs::remove_file(path);
            }
            keep
        });
    }

    /// All of them with a text that names them, to be kept across an upgrade.
    pub(crate) fn list(&self) -> Vec<(String, Arc<OwnedFd>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let named = open.iter().map(|((service, name, index), (_, fd))| {
            let index = index.map_or("-".to_owned(), |index| index.to_string());
            (format!("socket/{service}/{name}/{index}"), Arc::clone(fd))
        });
        named.collect()
    }
}

fn key_of(socket: &SocketSpec, instance: &InstanceId) -> SocketKey {
    let index = (!socket.shared).then_some(instance.index).flatten();
    (instance.service.to_string(), socket.name.clone(), index)
}

/// Where an instance's socket listens: the port counts up with the instances unless shared.
pub(crate) fn address_of(socket: &SocketSpec, instance: &InstanceId) -> SocketAddress {
    let add = if socket.shared { 0 } else { instance.number() };
    let mut address = socket.address.clone();
    if let SocketAddress::Tcp(at) | SocketAddress::Udp(at) = &mut address {
        at.set_port(at.port().saturating_add(add));
    }
    address
}

fn to_sys(address: &SocketAddress) -> Address {
    match address {
        SocketAddress::Tcp(at) => Address::Tcp(*at),
        SocketAddress::Udp(at) => Address::Udp(*at),
        SocketAddress::Unix { path, mode, .. } => Address::Unix { path: path.clone(), mode: *mode },
    }
}

/// Gives the file of a socket to its owner.
fn give_away(address: &SocketAddress) -> Result<(), ListenError> {
    let SocketAddress::Unix { path, owner, group, .. } = address else { return Ok(()) };
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    let failed = |source| ListenError::Io { address: path.display().to_string(), source };
    let account = owner.as_deref().map(sys::users::account).transpose();
    let account = account.map_err(|error| failed(io::Error::other(error)))?;
    let group = group.as_deref().map(sys::users::group_id).transpose();
    let group = group.map_err(|error| failed(io::Error::other(error)))?;
    let (uid, gid) = (account.as_ref().map(|a| a.uid), account.as_ref().map(|a| a.gid));
    std::os::unix::fs::lchown(path, uid, group.or(gid)).map_err(failed)
}

/// The sockets of a live service that an earlier daemon passed to it: copied out of the service
/// itself, at the places where the protocol puts them, if they still are what they should be.
pub(crate) fn recover(
    store: &SocketStore,
    process: &ProcessSpec,
    instance: &InstanceId,
    pidfd: &OwnedFd,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, socket) in (3..).zip(&process.sockets) {
        if store.holds(socket, instance) {
            continue;
        }
        let wanted = to_sys(&address_of(socket, instance));
        match sys::pidfd::take_fd(pidfd.as_fd(), at) {
            Ok(fd) if sys::socket::is_bound_to(fd.as_fd(), &wanted) => {
                store.put(socket, instance, fd);
            }
            Ok(_) => complaints.push(format!(
                "socket `{}` of {instance} is no longer open at descriptor {at}: connections may \
                 be refused at its next restart",
                socket.name
            )),
            Err(error) => complaints.push(format!(
                "socket `{}` of {instance} cannot be taken over: {error}; connections may be \
                 refused at its next restart",
                socket.name
            )),
        }
    }
    complaints
}
