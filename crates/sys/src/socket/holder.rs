//! Which process holds an address.
//!
//! The kernel lists sockets with their inode numbers; the process that has a descriptor with this
//! inode is the one. Needs root to see other users' processes.
//! Source: proc_net(5), proc_pid_fd(5).

use super::Address;
use crate::proc_fs;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;

/// Longest command that is shown.
const COMMAND_CHARS_MAX: usize = 80;

/// The state of a listening TCP socket in /proc/net/tcp.
const TCP_LISTENING: &str = "0A";

/// Pid and command of the process that holds an address, or stands in the way of it.
pub fn holder(address: &Address) -> Option<(u32, String)> {
    stranger(address, &[])
}

/// The same, unless one of these processes holds it as well. They are looked at first, which is
/// much less work than to look at all.
pub fn stranger(address: &Address, own: &[u32]) -> Option<(u32, String)> {
    let inode = match address {
        Address::Tcp(at) => inode_of_inet(["/proc/net/tcp", "/proc/net/tcp6"], *at, true),
        Address::Udp(at) => inode_of_inet(["/proc/net/udp", "/proc/net/udp6"], *at, false),
        Address::Unix { path, .. } => inode_of_unix(path.as_os_str().as_bytes()),
    }?;
    if own.iter().any(|pid| has_socket(*pid, &inode)) {
        return None;
    }
    let pid = proc_fs::all_pids().into_iter().find(|pid| has_socket(*pid, &inode))?;
    let command = proc_fs::command_line(pid).unwrap_or_else(|| "an unknown command".to_owned());
    Some((pid, command.chars().take(COMMAND_CHARS_MAX).collect()))
}

fn inode_of_inet(files: [&str; 2], wanted: SocketAddr, listening: bool) -> Option<String> {
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        text.lines().skip(1).find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = parse_address(fields.nth(1)?)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?;
            let counts = !listening || state == TCP_LISTENING;
            (counts && conflicts(local, wanted)).then(|| inode.to_owned())
        })
    })
}

/// Two addresses stand in each other's way if their ports are equal and either covers the other.
fn conflicts(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// `0100007F:1F90`: each group of eight digits is a number in the machine's own byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0_u8; 16];
    for (number, place) in bytes.chunks_exact_mut(4).take(address.len() / 8).enumerate() {
        let digits = address.get(number * 8..number * 8 + 8)?;
        place.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        32 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// `Num RefCount Protocol Flags Type St Inode Path`. Connections share the path of their listener,
/// which has the flag `__SO_ACCEPTCON` (0x10000).
fn inode_of_unix(path: &[u8]) -> Option<String> {
    let text = fs::read("/proc/net/unix").ok()?;
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    let mut found = None;
    for line in lines {
        let Some(start) = line.iter().position(|byte| *byte == b'/') else { continue };
        if line.get(start..) != Some(path) {
            continue;
        }
        let Ok(front) = std::str::from_utf8(line.get(..start)?) else { continue };
        let fields: Vec<&str> = front.split_ascii_whitespace().collect();
        let listens = fields.get(3) == Some(&"00010000");
        let inode = fields.get(6).map(|inode| (*inode).to_owned());
        if listens {
            return inode;
        }
        found = found.or(inode);
    }
    found
}

fn has_socket(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proc_are_read_in_the_machines_byte_order() {
        let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let v4 = format!("{}:1F90", hex([127, 0, 0, 1]));
        assert_eq!(parse_address(&v4), Some("127.0.0.1:8080".parse().unwrap()));
        let zero = hex([0; 4]);
        let v6 = format!("{zero}{zero}{zero}{}:0050", hex([0, 0, 0, 1]));
        assert_eq!(parse_address(&v6), Some("[::1]:80".parse().unwrap()));
        for bad in ["", ":", "0100007F", "0100007F:zz", "01:1F90", "0100007Fé:1F90"] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wildcard_stands_in_everybodys_way_on_its_port() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(conflicts(at("0.0.0.0:80"), at("127.0.0.1:80")));
        assert!(conflicts(at("[::ffff:127.0.0.1]:80"), at("127.0.0.1:80")));
        assert!(!conflicts(at("127.0.0.2:80"), at("127.0.0.1:80")));
        assert!(!conflicts(at("0.0.0.0:81"), at("127.0.0.1:80")));
    }
}
