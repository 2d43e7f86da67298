//! The direction of the crates: words ← codecs ← cores ← edge ← bin, and no arrow between cores.
//!
//! Why: a core that can reach a socket will sooner or later use it, and a core that can reach
//! another core will sooner or later wait for it.
//! Invariant: every crate of the workspace stands in [`ROOMS`], the one table of the direction.

use super::finding::Finding;
use super::metadata::{Dependency, Metadata, Package};
use std::path::Path;

/// A layer of the house; an arrow may point to a lower one only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Layer {
    Words,
    Codecs,
    Cores,
    Edge,
    Bin,
    /// Programs for development, which see everything and are seen by nobody.
    Dev,
}

impl Layer {
    /// True if crates of this layer have no clock, no threads and no I/O.
    pub(crate) fn is_pure(self) -> bool {
        self <= Layer::Cores
    }

    fn word(self) -> &'static str {
        match self {
            Layer::Words => "words",
            Layer::Codecs => "a codec",
            Layer::Cores => "a core",
            Layer::Edge => "edge",
            Layer::Bin => "the program",
            Layer::Dev => "for development",
        }
    }
}

/// A crate, its layer, and the crates of the same layer that it may stand on.
pub(crate) struct Room {
    pub(crate) name: &'static str,
    pub(crate) layer: Layer,
    beside: &'static [&'static str],
}

const fn room(name: &'static str, layer: Layer, beside: &'static [&'static str]) -> Room {
    Room { name, layer, beside }
}

pub(crate) const ROOMS: &[Room] = &[
    room("base", Layer::Words, &[]),
    room("control", Layer::Codecs, &[]),
    room("supervisor", Layer::Cores, &[]),
    room("config", Layer::Edge, &[]),
    room("sys", Layer::Edge, &[]),
    room("journal", Layer::Edge, &[]),
    room("console", Layer::Edge, &["config", "journal", "sys"]),
    room("supervisord", Layer::Edge, &[]),
    room("tdb", Layer::Edge, &[]),
    room("holdfast", Layer::Bin, &[]),
    room("trial", Layer::Dev, &[]),
    room("xtask", Layer::Dev, &["trial"]),
];

/// Crates that do I/O, run a loop or read a clock: never below the edge.
const NOT_IN_PURE: &[&str] = &[
    "axum",
    "crossterm",
    "hyper",
    "hyper-util",
    "jiff",
    "libc",
    "mio",
    "nix",
    "polling",
    "ratatui",
    "rusqlite",
    "rustix",
    "rustls",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tokio-stream",
    "tokio-util",
    "tracing-subscriber",
];

pub(crate) fn room_of(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

pub(crate) fn check(metadata: &Metadata, root: &Path) -> Vec<Finding> {
    metadata.members().flat_map(|package| check_package(package, root)).collect()
}

fn check_package(package: &Package, root: &Path) -> Vec<Finding> {
    let manifest = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path);
    let Some(room) = room_of(&package.name) else {
        let what = format!("crate `{}` has no place in the house", package.name);
        return vec![Finding::new(
            manifest,
            1,
            what,
            "give it a layer in xtask/src/tidy/arrows.rs",
        )];
    };
    let wrong = package.dependencies.iter().filter_map(|dependency| {
        let (what, right) = breach(room, dependency)?;
        Some(Finding::new(manifest, 1, what, right))
    });
    wrong.collect()
}

/// What is wrong with `room` standing on `dependency`, and what would be right.
fn breach(room: &Room, dependency: &Dependency) -> Option<(String, String)> {
    let arrow = format!("`{}` depends on `{}`", room.name, dependency.name);
    let is_dev = dependency.kind.as_deref() == Some("dev");
    let Some(target) = room_of(&dependency.name) else {
        let bad = room.layer.is_pure() && !is_dev && NOT_IN_PURE.contains(&&*dependency.name);
        return bad.then(|| {
            let right = format!("{} has no I/O: leave that to an edge crate", room.layer.word());
            (arrow, right)
        });
    };
    let beside = room.beside.contains(&target.name);
    // What tests stand on is no part of what is tested.
    if is_dev && target.layer == Layer::Dev {
        return None;
    }
    if target.layer < room.layer || (target.layer == room.layer && beside) {
        return None;
    }
    let right = format!(
        "arrows point down, and `{}` is {} while `{}` is {}",
        room.name,
        room.layer.word(),
        target.name,
        target.layer.word()
    );
    Some((arrow, right))
}

#[cfg(test)]
mod tests {
    use super::super::metadata::package;
    use super::*;

    fn findings(name: &str, dependencies: &[&str]) -> Vec<String> {
        check_package(&package(name, None, dependencies), Path::new(""))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn arrows_down_are_fine() {
        assert_eq!(findings("supervisor", &["base", "control", "thiserror"]), [""; 0]);
        assert_eq!(findings("console", &["journal", "supervisor", "tokio"]), [""; 0]);
        assert_eq!(findings("supervisor", &["dev:tokio"]), [""; 0]);
    }

    #[test]
    fn arrows_up_are_not() {
        let found = findings("supervisor", &["sys"]);
        assert_eq!(
            found,
            ["crates/supervisor/Cargo.toml:1: `supervisor` depends on `sys`; arrows point down, \
              and `supervisor` is a core while `sys` is edge"]
        );
        assert_eq!(findings("base", &["dev:config"]).len(), 1);
        assert_eq!(findings("sys", &["journal"]).len(), 1, "an arrow beside must be declared");
        assert_eq!(findings("holdfast", &["xtask"]).len(), 1);
        assert_eq!(findings("holdfast", &["trial"]).len(), 1);
        assert_eq!(findings("holdfast", &["dev:trial"]), [""; 0]);
    }

    #[test]
    fn a_pure_crate_stands_on_no_io() {
        assert!(findings("control", &["tokio"])[0].contains("has no I/O"));
        assert!(findings("base", &["build:rustix"])[0].contains("has no I/O"));
    }

    #[test]
    fn a_new_crate_must_say_where_it_stands() {
        assert!(findings("attic", &[])[0].contains("no place in the house"));
    }
}
