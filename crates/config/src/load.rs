//! The ways in: from files, or from texts.

use crate::assemble::assemble;
use crate::daemon::Context;
use crate::diagnostic::Diagnostics;
use crate::read::{Files, read};
use crate::settings::Config;
use crate::source::Sources;
use std::path::{Path, PathBuf};

/// What came of a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; `None` exactly when `diagnostics` has errors.
    pub config: Option<Config>,
    /// Everything that is wrong or doubtful.
    pub diagnostics: Diagnostics,
    /// The files that belong to it, the main one first, readable or not.
    pub files: Vec<PathBuf>,
}

/// Reads the file at `path` and `conf.d/*.toml` beside it, sorted by name.
pub fn load(path: &Path, context: &Context) -> Loaded {
    let Files { sources, faults, paths } = read(path);
    let (config, diagnostics) = assemble(&sources, faults, context);
    Loaded { config, diagnostics, files: paths }
}

/// Checks texts, each with the path it is shown with. Touches nothing.
pub fn parse(sources: Vec<(PathBuf, String)>, context: &Context) -> Loaded {
    let files = sources.iter().map(|(path, _)| path.clone()).collect();
    let mut all = Sources::default();
    for (path, text) in sources {
        all.add(path, text);
    }
    let (config, diagnostics) = assemble(&all, Vec::new(), context);
    Loaded { config, diagnostics, files }
}

/// A documented template of a configuration, with every key and its default.
pub fn defaults() -> String {
    include_str!("defaults.toml").to_owned()
}

/// The main file where none is named: `/etc/holdfast/holdfast.toml` for root, else
/// `$XDG_CONFIG_HOME/holdfast/holdfast.toml` (`~/.config/holdfast/holdfast.toml`).
pub fn default_path(context: &Context) -> PathBuf {
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    default_path_in(context, xdg.filter(|path| path.is_absolute()))
}

fn default_path_in(context: &Context, xdg_config_home: Option<PathBuf>) -> PathBuf {
    if context.is_root {
        return PathBuf::from("/etc/holdfast/holdfast.toml");
    }
    let config = xdg_config_home.unwrap_or_else(|| context.home.join(".config"));
    config.join("holdfast/holdfast.toml")
}
