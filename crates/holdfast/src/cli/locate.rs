//! Where the daemon is: its configuration, and by it its sockets and its state.
//!
//! Invariant: a configuration with faults does not stop a command that was told the socket, nor
//! one that finds it at its default place: `status` must work while somebody edits the file.

use super::args::Global;
use super::failure::Failure;
use crate::paths::{Paths, machine_context};
use config::{Config, Context, Loaded};
use std::path::PathBuf;

/// The machine as far as defaults depend on it.
pub(crate) fn context() -> Context {
    machine_context(None)
}

/// The configuration file that the daemon would read.
pub(crate) fn configuration(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| config::default_path(&context()))
}

/// The configuration as the file says.
pub(crate) fn load(global: &Global) -> Loaded {
    config::load(&configuration(global), &context())
}

/// The control socket: as told, else as configured, else at its default place.
pub(crate) fn control_socket(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = &global.socket {
        return Ok(path.clone());
    }
    Ok(paths(global)?.control_socket())
}

/// The state directory, for what is read without the daemon.
pub(crate) fn state_dir(global: &Global) -> Result<PathBuf, Failure> {
    // The directories of a daemon that was only told by its socket need not be the configured ones.
    if let Some(socket) = &global.socket
        && let Ok(snapshot) =
            super::client::Client::connect(socket).and_then(|mut client| client.status())
    {
        return Ok(PathBuf::from(snapshot.state_dir));
    }
    Ok(paths(global)?.state)
}

fn paths(global: &Global) -> Result<Paths, Failure> {
    let configured = load(global).config.or_else(|| defaults(&context()));
    configured.map(|config| Paths::of(&config.daemon)).ok_or_else(|| {
        Failure::usage("cannot tell where holdfast keeps its sockets")
            .help("name the control socket with --socket")
    })
}

/// Every default, as with an empty file.
fn defaults(context: &Context) -> Option<Config> {
    config::parse(vec![(PathBuf::from("defaults"), String::new())], context).config
}
