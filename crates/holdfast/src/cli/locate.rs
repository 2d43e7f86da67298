//! Where the daemon is: its configuration, and by it its sockets.

use super::args::Global;
use super::failure::Failure;
use std::path::PathBuf;

/// The control socket.
pub(crate) fn control_socket(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = &global.socket {
        return Ok(path.clone());
    }
    Ok(PathBuf::from("/run/holdfast/control.sock"))
}

/// The configuration file that the daemon would read.
pub(crate) fn configuration(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| PathBuf::from("/etc/holdfast/holdfast.toml"))
}

/// The state directory, for what is read without the daemon.
pub(crate) fn state_dir(_global: &Global) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from("/var/lib/holdfast"))
}
