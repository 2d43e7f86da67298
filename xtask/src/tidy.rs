//! The rules of the house that the compiler does not know.
//!
//! Why: purity, direction and honesty of the documentation are kept by a tool or not at all.
//! Invariants: each rule is a function from what it looks at to findings, and has tests that show
//! it can fail; all findings are reported at once; a note never fails the run.

mod arrows;
mod docs;
mod finding;
mod headers;
mod licences;
pub(crate) mod metadata;
mod purity;
mod requirements;
mod source;
mod text;

use crate::report::say;
use crate::tool;
use anyhow::{Context, Result, bail};
use metadata::Metadata;
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the numbered requirements stand, when this repository lies beside them.
const REQUIREMENTS: &str = "../shared/spec/requirements.md";

pub(crate) fn run() -> Result<()> {
    let root = tool::root();
    let files = read_files(&root)?;
    let sources = sources(&files);
    let metadata = Metadata::load()?;
    let policy = licences::Policy::parse(text_of(&files, "deny.toml")?)?;

    let mut findings = Vec::new();
    let mut notes = Vec::new();
    findings.extend(arrows::check(&metadata, &root));
    findings.extend(licences::check(&metadata, &policy));
    findings.extend(purity::check(&sources, &files));
    findings.extend(headers::check(&sources, &mut notes));
    findings.extend(text::check_sources(&sources));
    findings.extend(text::check_files(&files, &text::Machine::here(&root)));
    findings.extend(docs::check(&files, &|path| root.join(path).exists()));
    notes.extend(licences::duplicates(&metadata));
    if let Ok(requirements) = std::fs::read_to_string(root.join(REQUIREMENTS)) {
        // The tests of these rules use numbers as examples; they prove nothing of the product.
        let product = sources.iter().filter(|source| !source.path.starts_with("xtask"));
        notes.push(requirements::summary(&requirements, product));
    }

    findings.sort();
    findings.dedup();
    for note in &notes {
        say(&format!("note: {note}"));
    }
    for finding in &findings {
        say(&finding.to_string());
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    say(&format!("tidy: {} files follow the rules", files.len()));
    Ok(())
}

/// Every text file of the repository that git does not ignore, by its path.
type Files = BTreeMap<PathBuf, String>;

fn read_files(root: &Path) -> Result<Files> {
    let list = tool::output(tool::command("git").args([
        "ls-files",
        "-z",
        "-c",
        "-o",
        "--exclude-standard",
    ]))
    .context("tidy asks git which files belong to the repository")?;
    let mut files = Files::new();
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        // A file that git knows may be gone from the disk, and pictures are not text.
        if let Ok(text) = std::fs::read_to_string(root.join(name))
            && !text.contains('\0')
        {
            files.insert(PathBuf::from(name), text);
        }
    }
    Ok(files)
}

fn text_of<'a>(files: &'a Files, name: &str) -> Result<&'a str> {
    files.get(Path::new(name)).map(String::as_str).with_context(|| format!("{name} is missing"))
}

/// The Rust files, with those marked that only a test build compiles.
fn sources(files: &Files) -> Vec<Source> {
    let mut sources: Vec<Source> = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|ext| ext == "rs"))
        .map(|(path, text)| Source::new(path, text))
        .collect();
    let children: BTreeSet<PathBuf> = sources.iter().flat_map(Source::test_children).collect();
    let folders: Vec<PathBuf> = children.iter().map(|child| child.with_extension("")).collect();
    for source in &mut sources {
        let below = folders.iter().any(|folder| source.path.starts_with(folder));
        source.is_test |= below || children.contains(&source.path);
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_file_declares_is_test_code_too() {
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let files = Files::from([
            file("src/lib.rs", "#[cfg(test)]\nmod checks;\nmod real;\n"),
            file("src/checks.rs", "mod deep;\n"),
            file("src/checks/deep.rs", "\n"),
            file("src/real.rs", "\n"),
            file("tests/it/main.rs", "\n"),
        ]);
        let is_test: Vec<bool> = sources(&files).iter().map(|source| source.is_test).collect();
        // In the order of the paths: checks, checks/deep, lib, real, tests/it/main.
        assert_eq!(is_test, [true, true, false, false, true]);
    }
}
