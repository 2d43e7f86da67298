//! Listening, being refused with a name, being notified, and knowing who is there.

use crate::support::{Output, is_root, kill, plan, run, wait};
use std::io::IoSlice;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use sys::child::Exit;
use sys::socket::{
    Address, ListenError, holder, is_bound_to, listen, notify_socket, pair, receive_notify,
    tcp_peer_uid, unix_peer,
};
use sys::spawn::spawn;
use sys::users::Identity;

fn unix(path: &Path, mode: u32) -> Address {
    Address::Unix { path: path.to_owned(), mode }
}

#[test]
fn listening_sockets_of_each_kind_are_what_they_should_be() {
    let output = Output::new();
    let path = output.path("x.sock");
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let addresses = [Address::Tcp(loopback), Address::Udp(loopback), unix(&path, 0o660)];
    for (number, address) in addresses.iter().enumerate() {
        let fd = listen(address, 16).unwrap();
        for (other, candidate) in addresses.iter().enumerate() {
            assert_eq!(is_bound_to(fd.as_fd(), candidate), other == number, "{address}");
        }
    }
    let found = std::fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    // A service that is restarted binds again at once.
    let listener = TcpListener::from(listen(&Address::Tcp(loopback), 16).unwrap());
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let accepted = listener.accept().unwrap();
    drop((accepted, client, listener));
    listen(&Address::Tcp(at), 16).unwrap();
}

#[test]
fn an_address_in_use_names_who_holds_it() {
    let output = Output::new();
    let path = output.path("held.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix_listener = UnixListener::bind(&path).unwrap();
    // The holder is another program: it has these open, and we have not.
    let mut plan = plan(&["sleep", "1000"], output.fd());
    plan.pass_fds = vec![tcp.as_fd(), udp.as_fd(), unix_listener.as_fd()];
    let spawned = spawn(&plan).unwrap();
    drop(plan);
    // The new program's words appear a moment after our memory has been given back to us.
    crate::support::wait_for("the command line", || {
        sys::proc_fs::command_line(spawned.pid).filter(|line| line == "sleep 1000")
    });
    let port = tcp.local_addr().unwrap().port();
    let addresses = [
        Address::Tcp(tcp.local_addr().unwrap()),
        Address::Tcp(SocketAddr::from(([0, 0, 0, 0], port))),
        Address::Udp(udp.local_addr().unwrap()),
        unix(&path, 0o600),
    ];
    drop((tcp, udp, unix_listener));
    let errors: Vec<_> = addresses.iter().map(|a| listen(a, 16).unwrap_err().to_string()).collect();
    let known = holder(&addresses[0]);
    kill(&spawned);
    assert_eq!(known, Some((spawned.pid, "sleep 1000".to_owned())));
    for (address, error) in addresses.iter().zip(errors) {
        let expect = format!("{address} is already in use by sleep 1000 (pid {})", spawned.pid);
        assert!(error.starts_with(&expect), "{error}");
    }
    // Its holder is dead: the file that it left is no obstacle.
    listen(&unix(&path, 0o600), 16).unwrap();
}

#[test]
fn each_way_not_to_listen_has_its_own_message() {
    let output = Output::new();
    let file = output.path("out");
    assert!(matches!(listen(&unix(&file, 0o600), 1), Err(ListenError::NotASocket(_))));
    assert!(file.exists());
    let missing = unix(Path::new("/no/where/x.sock"), 0o600);
    assert!(
        matches!(listen(&missing, 1), Err(ListenError::NoDirectory(path)) if path == Path::new("/no/where"))
    );
    let long = unix(&output.path(&"x".repeat(120)), 0o600);
    assert!(matches!(listen(&long, 1), Err(ListenError::TooLong(_))));
    // An address of the block for documentation is no interface's (RFC 5737).
    let foreign = Address::Tcp("192.0.2.1:0".parse().unwrap());
    assert!(matches!(listen(&foreign, 1), Err(ListenError::NotLocal(_))));
}

#[test]
fn a_service_says_that_it_is_ready_and_the_kernel_vouches_for_its_pid() {
    let output = Output::new();
    let path = output.path("n.sock");
    let socket = notify_socket(&path, None).unwrap();
    assert_eq!(receive_notify(socket.as_fd()).unwrap(), None);
    let script = "import os,socket; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); \
                  s.sendto(b'READY=1\\nSTATUS=up',os.environ['NOTIFY_SOCKET']); print(os.getpid())";
    if Path::new("/usr/bin/python3").exists() {
        let (exit, text) = run(&["/usr/bin/python3", "-c", script], |plan| {
            plan.env.push(("NOTIFY_SOCKET".into(), path.clone().into()));
        });
        assert_eq!(exit, Exit::Code(0), "{text}");
        let (message, pid) = receive_notify(socket.as_fd()).unwrap().unwrap();
        assert_eq!(message, b"READY=1\nSTATUS=up");
        assert_eq!(pid.to_string(), text.trim());
    }
    // A message beyond the limit is cut, not refused; the next one is whole again.
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(&[b'x'; 10_000], &path).unwrap();
    sender.send_to(b"STATUS=short", &path).unwrap();
    let (message, pid) = receive_notify(socket.as_fd()).unwrap().unwrap();
    assert_eq!((message.len(), pid), (4096, std::process::id()));
    assert_eq!(receive_notify(socket.as_fd()).unwrap().unwrap().0, b"STATUS=short");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn descriptors_in_a_notification_are_closed_at_once() {
    let output = Output::new();
    let path = output.path("n.sock");
    // A file of an earlier run is replaced.
    drop(notify_socket(&path, None).unwrap());
    let socket = notify_socket(&path, Some((4321, 4322)).filter(|_| is_root("owner"))).unwrap();
    if sys::users::effective_uid() == 0 {
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (4321, 4322));
    }
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&path).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_with_fd(sender.as_fd(), b"FDSTORE=1", theirs.as_fd());
    drop(theirs);
    let (message, pid) = receive_notify(socket.as_fd()).unwrap().unwrap();
    assert_eq!((message.as_slice(), pid), (&b"FDSTORE=1"[..], std::process::id()));
    // Nobody holds the other end any more, or this would block.
    ours.set_nonblocking(true).unwrap();
    assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0);
}

fn send_with_fd(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn the_peer_of_a_unix_socket_is_the_kernels_word() {
    let (one, other) = pair().unwrap();
    let peer = unix_peer(one.as_fd()).unwrap();
    assert_eq!((peer.uid, peer.pid), (sys::users::effective_uid(), Some(std::process::id())));
    drop(other);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(unix_peer(listener.as_fd()).is_err());

    if !is_root("the part about another user") || !Path::new("/usr/bin/socat").exists() {
        return;
    }
    let output = Output::new();
    let path = output.path("p.sock");
    std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let fd: OwnedFd = listen(&unix(&path, 0o666), 16).unwrap();
    let mut plan = plan(&["socat", "-u", &format!("UNIX:{}", path.display()), "-"], output.fd());
    plan.identity = Some(Identity { uid: 4321, gid: 4322, groups: vec![4323, 4324] });
    let spawned = spawn(&plan).unwrap();
    let (stream, _) = UnixListener::from(fd).accept().unwrap();
    let peer = unix_peer(stream.as_fd()).unwrap();
    drop(stream);
    wait(spawned.pid);
    assert_eq!((peer.uid, peer.gid, peer.pid), (4321, 4322, Some(spawned.pid)));
    assert_eq!(peer.groups, [4323, 4324]);
}

#[test]
fn the_user_behind_a_loopback_connection_is_known() {
    if !is_root("the part about another user") || !Path::new("/usr/bin/socat").exists() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let output = Output::new();
    let mut plan = plan(&["socat", "-u", &format!("TCP:{local}"), "-"], output.fd());
    plan.identity = Some(Identity { uid: 4321, gid: 4322, groups: Vec::new() });
    let spawned = spawn(&plan).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    let uid = tcp_peer_uid(local, peer).unwrap();
    drop(stream);
    wait(spawned.pid);
    assert_eq!(uid, Some(4321));
}
