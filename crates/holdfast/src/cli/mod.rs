//! The command line: what each command does, and the one place where it ends.
//!
//! Commands return a [`failure::Code`] or a [`failure::Failure`]; nothing here exits by itself,
//! and nothing prints but through [`output`].

pub(crate) mod args;
pub(crate) mod client;
pub(crate) mod failure;
mod locate;
pub(crate) mod output;
mod signals;

use args::{Cli, Command, Global, RunArgs};
use client::Client;
use control::{Reply, Request};
use failure::{Code, Failure};
use output::Output;
use std::process::ExitCode;

/// Carries out what was typed.
pub(crate) fn main(cli: Cli) -> ExitCode {
    let output = Output::new(&cli.global);
    let code = match dispatch(cli, output) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.code
        }
    };
    ExitCode::from(code.number())
}

fn dispatch(cli: Cli, output: Output) -> Result<Code, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run(&global, args),
        Command::Duty { name } => done(crate::root::duty(&name)),
        Command::Status(_) => {
            output.json(&connect(&global)?.status()?)?;
            Ok(Code::Done)
        }
        Command::Reload => simple(&global, output, Request::Reload),
        Command::Stop(args) => {
            simple(&global, output, Request::Stop { keep_services: args.keep_services })
        }
        other => Err(Failure::usage(format!("not in this version: {other:?}"))),
    }
}

fn run(global: &Global, args: RunArgs) -> Result<Code, Failure> {
    done(crate::root::run(crate::root::RunOptions {
        config: locate::configuration(global),
        state_dir: args.state_dir,
        daemon: args.daemon,
        pid_file: args.pid_file,
        log_file: args.log_file,
        log_level: args.log_level,
    }))
}

/// The outcome of the daemon and its duties: the whole chain of causes, on one line.
fn done(outcome: anyhow::Result<()>) -> Result<Code, Failure> {
    match outcome {
        Ok(()) => Ok(Code::Done),
        Err(why) => Err(Failure::no(format!("{why:#}"))),
    }
}

fn connect(global: &Global) -> Result<Client, Failure> {
    Client::connect(&locate::control_socket(global)?)
}

fn simple(global: &Global, output: Output, request: Request) -> Result<Code, Failure> {
    match connect(global)?.ask(request)? {
        Reply::Done { message, .. } => {
            output.line(&message)?;
            Ok(Code::Done)
        }
        other => Err(client::unexpected(&other)),
    }
}
