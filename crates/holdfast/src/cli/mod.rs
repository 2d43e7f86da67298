//! The command line: what each command does, and the one place where it ends.
//!
//! Commands return a [`failure::Code`] or a [`failure::Failure`]; nothing here exits by itself,
//! and nothing prints but through [`output`].

pub(crate) mod args;
pub(crate) mod client;
mod configuration;
mod daemon;
mod doctor;
mod events;
mod evidence;
pub(crate) mod failure;
mod generate;
mod health;
mod http;
mod import;
mod locate;
mod logs;
mod mail;
mod mode;
pub(crate) mod output;
mod pause;
#[cfg(test)]
mod samples;
mod service;
mod status;
mod tdb;
pub(crate) mod text;
mod token;
mod top;
mod why;

use args::{Cli, Command, Global, RunArgs};
use client::Client;
use failure::{Code, Failure};
use output::Output;
use std::process::ExitCode;

/// Carries out what was typed.
pub(crate) fn main(cli: Cli) -> ExitCode {
    let output = Output::new(&cli.global);
    let code = match dispatch(cli, &output) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.code
        }
    };
    ExitCode::from(code.number())
}

/// Runs one of the daemon's helper processes.
pub(crate) fn duty(name: &str) -> ExitCode {
    match done(crate::root::duty(name)) {
        Ok(code) => ExitCode::from(code.number()),
        Err(failure) => {
            Output::new(&Global::default()).failure(&failure);
            ExitCode::from(failure.code.number())
        }
    }
}

fn dispatch(cli: Cli, output: &Output) -> Result<Code, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run(&global, args),
        Command::Demo(args) => crate::demo::run(output, &args),
        Command::DemoApp(args) => done(crate::demo::app::run(args)),
        Command::Duty { name } => done(crate::root::duty(&name)),
        Command::Status(args) => status::run(output, connect(&global)?.status()?, &args.names),
        Command::Why(args) => why::run(output, &mut connect(&global)?, &args.subject),
        Command::Events(args) => events::run(output, &global, &args),
        Command::Logs(args) => logs::run(output, &global, &args),
        Command::Top => top::run(output, &global),
        Command::Service { action } => {
            service::run(output, &locate::control_socket(&global)?, action)
        }
        Command::Evidence { action } => evidence::run(output, &global, action),
        Command::Mode(args) => mode::run(output, &mut connect(&global)?, args),
        Command::Reload => daemon::reload(output, &mut connect(&global)?),
        Command::Stop(args) => daemon::stop(output, &mut connect(&global)?, &args),
        Command::Upgrade(args) => daemon::upgrade(output, &locate::control_socket(&global)?, &args),
        Command::Token(args) => token::run(output, &args),
        Command::Completions(args) => generate::completions(output, &args),
        Command::Man(args) => generate::man(output, &args),
        Command::Mail { action } => mail::run(output, &global, action),
        Command::Config { action } => configuration::run(output, &global, action),
        Command::Import { from } => import::run(output, &from),
        Command::Tdb { action } => tdb::run(output, &action),
        Command::Doctor => doctor::run(output, &global),
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
        Err(why) if why.is::<crate::root::ConfigFaults>() => Err(Failure::usage(why)),
        Err(why) => Err(Failure::no(format!("{why:#}"))),
    }
}

fn connect(global: &Global) -> Result<Client, Failure> {
    Client::connect(&locate::control_socket(global)?)
}
