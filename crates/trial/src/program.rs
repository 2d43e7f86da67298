//! The program with the faults, compiled.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = include_str!("../assets/fault.c");

/// What a trial needs to run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `holdfast` itself.
    pub holdfast: PathBuf,
    /// The program with the faults.
    pub fault: PathBuf,
}

impl Programs {
    /// Compiles the program with the faults into `folder`; a C compiler is needed to build
    /// Holdfast, too.
    ///
    /// # Errors
    /// There is no `cc`, or it does not like the program.
    pub fn build(holdfast: &Path, folder: &Path) -> Result<Self> {
        let (source, fault) = (folder.join("fault.c"), folder.join("fault"));
        fs::write(&source, SOURCE)?;
        let output = Command::new("cc")
            .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-pthread", "-o"])
            .args([&fault, &source])
            .stdin(Stdio::null())
            .output()
            .context("cannot run `cc`: it is needed to build Holdfast, too")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !said.is_empty() {
            bail!("cc does not like the program with the faults: {said}");
        }
        Ok(Self { holdfast: holdfast.to_owned(), fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_compiled_without_a_warning_and_refuses_what_it_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::build(Path::new("holdfast"), folder.path()).unwrap();
        let run = |word: &str| Command::new(&programs.fault).arg(word).output().unwrap().status;
        assert_eq!(run("no-such-fault").code(), Some(64));
    }
}
