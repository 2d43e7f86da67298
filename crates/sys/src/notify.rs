//! Towards the service manager above us: READY, STATUS, WATCHDOG.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3). The protocol is one datagram, so no library is
//! needed.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::Duration;

/// The variables of the protocol.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What the environment said when it was first asked.
static FOUND: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// Sends `READY=1` and the like. `false`: nobody wants to know.
pub fn send(state: &str) -> io::Result<bool> {
    let Some(path) = variable("NOTIFY_SOCKET") else { return Ok(false) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(path)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is no path")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager whose queue is full must not stop us.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(true)
}

/// How often `WATCHDOG=1` should be sent: half of what the manager allows. `None`: not at all.
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    let micros = number("WATCHDOG_USEC").filter(|micros| 0 < *micros)?;
    Some(Duration::from_micros(micros) / 2)
}

/// Takes these variables out of our environment, and remembers them for the calls above, so that
/// no child can speak in our name (C5). Call it first thing in `main`, before any thread is started.
pub fn clear_environment() {
    let _ = environment();
    for name in VARIABLES {
        // SAFETY: the caller promises that no other thread runs yet which could read it meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// The variables as we found them, for a new binary that takes our place.
pub fn environment() -> &'static [(OsString, OsString)] {
    FOUND.get_or_init(|| {
        VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)))
            .collect()
    })
}

fn variable(wanted: &str) -> Option<&'static OsString> {
    environment().iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
}
