//! What `cargo metadata` says about the workspace and everything it is built from.
//!
//! Source: The Cargo Book, "cargo metadata", format version 1.

use crate::tool;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;

/// The platform that the product is built for; others would bring packages nobody links.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Absent for a normal dependency, otherwise `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Metadata {
    pub(crate) fn load() -> Result<Metadata> {
        let text = tool::output(tool::cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            PLATFORM,
        ]))?;
        serde_json::from_str(&text).context("cannot read what `cargo metadata` printed")
    }

    /// The crates of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Everything else.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.workspace_members.contains(&package.id))
    }
}

#[cfg(test)]
pub(crate) fn of(packages: Vec<Package>) -> Metadata {
    Metadata { packages, workspace_members: Vec::new(), target_directory: PathBuf::new() }
}

#[cfg(test)]
pub(crate) fn package(name: &str, license: Option<&str>, dependencies: &[&str]) -> Package {
    let dependency = |text: &&str| match text.split_once(':') {
        Some((kind, name)) => Dependency { name: name.to_owned(), kind: Some(kind.to_owned()) },
        None => Dependency { name: (*text).to_owned(), kind: None },
    };
    Package {
        id: format!("{name} 1.0.0"),
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        license: license.map(str::to_owned),
        manifest_path: PathBuf::from(format!("crates/{name}/Cargo.toml")),
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}
