//! `completions` and `man`: made from the definitions in [`super::args`], so that they can't
//! differ from what the program understands.

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::failure::{Code, Failure};
use super::output::Output;
use clap::CommandFactory;
use std::path::Path;

/// `holdfast completions SHELL`.
pub(crate) fn completions(output: &Output, args: &CompletionsArgs) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdfast", &mut script);
    output.raw(&script)?;
    Ok(Code::Done)
}

/// `holdfast man [--dir DIR]`.
pub(crate) fn man(output: &Output, args: &ManArgs) -> Result<Code, Failure> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => output.raw(&page(&command)?)?,
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|why| cannot_write(dir, &why))?;
            write_pages(output, dir, &command, "holdfast")?;
        }
    }
    Ok(Code::Done)
}

/// One page for a command and one for each of its own that is not hidden.
fn write_pages(
    output: &Output,
    dir: &Path,
    command: &clap::Command,
    name: &str,
) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).map_err(|why| cannot_write(&path, &why))?;
    if !output.json {
        output.line(&path.display().to_string())?;
    }
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            write_pages(output, dir, below, &format!("{name}-{}", below.get_name()))?;
        }
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut bytes).map_err(Failure::no)?;
    Ok(bytes)
}

fn cannot_write(path: &Path, why: &std::io::Error) -> Failure {
    Failure::no(format!("cannot write {}: {why}", path.display()))
        .help("name a directory that you may write with --dir")
}
