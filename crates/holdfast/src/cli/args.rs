//! What can be typed: the commands, their options, and their help with an example each.
//!
//! Pure definitions; what a command does stands in the module of its name.

mod service;

pub(crate) use service::{EvidenceCommand, ModeArg, ModeArgs, ServiceCommand, TargetArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};
use service::{EVIDENCE_EXAMPLE, MODE_EXAMPLE, SERVICE_EXAMPLE};
use std::path::PathBuf;
use std::time::Duration;

/// What every exit code means; part of the help and of `docs/cli.md`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  no, or it failed (a service is failed, a check found faults)
  2  wrong usage or a faulty configuration
  3  cannot tell (the daemon can't be reached)

Example:
  holdfast run --config ./holdfast.toml
  holdfast status";

/// Keeps long-running services alive, and proves it.
#[derive(Parser, Debug)]
#[command(name = "holdfast", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options that every command understands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command understands.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Global {
    /// Control socket of the daemon [default: `control.sock` in the configuration's `run_dir`]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "HOLDFAST_SOCKET",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options")]
    pub(crate) socket: Option<PathBuf>,
    /// Configuration file [default: /etc/holdfast/holdfast.toml, or the user's own]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "HOLDFAST_CONFIG",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON of a documented shape instead of text
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// When to use colours: auto, always or never; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    #[arg(help_heading = "Global options")]
    pub(crate) color: ColorChoice,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Even into a pipe.
    Always,
    /// Not at all.
    Never,
}

/// The commands, in the order of the help.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the daemon: start the configured services and keep them alive
    #[command(after_help = RUN_EXAMPLE)]
    Run(RunArgs),
    /// See it work: a throw-away daemon, real services, and faults on a schedule
    #[command(after_help = DEMO_EXAMPLE)]
    Demo(DemoArgs),
    /// Show the services and their states
    #[command(after_help = STATUS_EXAMPLE)]
    Status(StatusArgs),
    /// Explain why a service is as it is, down to the root cause
    #[command(after_help = WHY_EXAMPLE)]
    Why(WhyArgs),
    /// Show the journal: state changes, decisions and commands
    #[command(after_help = EVENTS_EXAMPLE)]
    Events(EventsArgs),
    /// Show the output of a service
    #[command(after_help = LOGS_EXAMPLE)]
    Logs(LogsArgs),
    /// Watch the services live
    #[command(after_help = TOP_EXAMPLE)]
    Top,
    /// Start, stop, restart, replace, reload, signal or reset services
    #[command(after_help = SERVICE_EXAMPLE, subcommand_required = true)]
    #[command(arg_required_else_help = true)]
    Service {
        /// What to do with them.
        #[command(subcommand)]
        action: ServiceCommand,
    },
    /// What is kept of sick runs: list it, look at it, take it along
    #[command(after_help = EVIDENCE_EXAMPLE, subcommand_required = true)]
    #[command(arg_required_else_help = true)]
    Evidence {
        /// What about it.
        #[command(subcommand)]
        action: EvidenceCommand,
    },
    /// Set how much is done about sick services: off, observe or enforce
    #[command(after_help = MODE_EXAMPLE)]
    Mode(ModeArgs),
    /// Check or show the configuration
    #[command(after_help = CONFIG_EXAMPLE, subcommand_required = true)]
    #[command(arg_required_else_help = true)]
    Config {
        /// What about it.
        #[command(subcommand)]
        action: ConfigCommand,
    },
    /// Turn the configuration of another supervisor into one of holdfast
    #[command(after_help = super::import::EXAMPLE, subcommand_required = true)]
    #[command(arg_required_else_help = true)]
    Import {
        /// Of which.
        #[command(subcommand)]
        from: super::import::ImportCommand,
    },
    /// Look into TDB files, the record files of Samba and ctdb; change and copy them
    #[command(after_help = super::tdb::EXAMPLE, subcommand_required = true)]
    #[command(arg_required_else_help = true)]
    Tdb {
        /// What to do with one.
        #[command(subcommand)]
        action: super::tdb::TdbCommand,
    },
    /// Make the daemon read its configuration again; only what changed is touched
    #[command(after_help = RELOAD_EXAMPLE)]
    Reload,
    /// End the daemon, and its services in reverse order
    #[command(after_help = STOP_EXAMPLE)]
    Stop(StopArgs),
    /// Replace the running daemon by a newer binary; services go on
    #[command(after_help = UPGRADE_EXAMPLE)]
    Upgrade(UpgradeArgs),
    /// Try whether mail works, and see what waits
    #[command(subcommand_required = true, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  holdfast mail test")]
    Mail {
        /// What about it.
        #[command(subcommand)]
        action: super::mail::MailCommand,
    },
    /// Make a token for the remote API
    #[command(after_help = TOKEN_EXAMPLE)]
    Token(TokenArgs),
    /// Find out what is wrong with this installation
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor,
    /// Print the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLE)]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true, after_help = MAN_EXAMPLE)]
    Man(ManArgs),
    /// One of the daemon's own helper processes; started by `run` only
    #[command(hide = true)]
    Duty {
        /// Which.
        name: String,
    },
    /// A small service with faults to order, for the demo and the tests
    #[command(hide = true)]
    DemoApp(crate::demo::app::args::DemoAppArgs),
}

const RUN_EXAMPLE: &str = "\
Examples:
  holdfast run --config ./holdfast.toml
  holdfast run --daemon --pid-file /run/holdfast.pid";

/// `holdfast run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Keep all state here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Go to the background; returns once the daemon is really up
    #[arg(long)]
    pub(crate) daemon: bool,
    /// Write the daemon's pid here, and hold a lock on the file
    #[arg(long, value_name = "PATH")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Own log with --daemon [default: `holdfast.log` in the state directory]
    #[arg(long, value_name = "PATH", requires = "daemon")]
    pub(crate) log_file: Option<PathBuf>,
    /// What to log of ourselves: error, warn, info, debug, or a filter such as `root=debug`
    #[arg(long, value_name = "FILTER", env = "HOLDFAST_LOG", hide_env_values = true)]
    #[arg(default_value = "info")]
    pub(crate) log_level: String,
}

const DEMO_EXAMPLE: &str = "\
Examples:
  holdfast demo
  holdfast demo --for 30s";

/// `holdfast demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// End after this long (but not before one whole round of faults), and print a table
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,
    /// Order of the faults after the first round
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keep the temporary directory, to look at it afterwards
    #[arg(long)]
    pub(crate) keep: bool,
}

const STATUS_EXAMPLE: &str = "\
Exits with 1 if something is failed or not as wanted.

Examples:
  holdfast status
  holdfast status web --json";

/// `holdfast status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Only these services or instances
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

const WHY_EXAMPLE: &str = "\
Example:
  holdfast why web";

/// `holdfast why`.
#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// A service, an instance (`web:1`), or `holdfast`
    pub(crate) subject: String,
}

const EVENTS_EXAMPLE: &str = "\
Examples:
  holdfast events --since 1h --severity warning
  holdfast events -f --subject web
  holdfast events --since 2026-05-01T12:00:00Z --json";

/// `holdfast events`.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Go on showing events as they happen
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Not older than this: `10m`, `1h`, or a date and time
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only about this service, instance, or `holdfast`
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// Only this severe or worse
    #[arg(long, value_name = "LEVEL")]
    pub(crate) severity: Option<SeverityArg>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// How severe.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SeverityArg {
    /// Normal.
    Info,
    /// Degraded, but handled.
    Warning,
    /// Somebody must act.
    Error,
}

const LOGS_EXAMPLE: &str = "\
Examples:
  holdfast logs web
  holdfast logs -f -n 20 web:1";

/// `holdfast logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on showing lines as they are written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) lines: u32,
    /// A service or an instance (`web:1`)
    #[arg(value_name = "SERVICE")]
    pub(crate) name: String,
}

const TOP_EXAMPLE: &str = "\
Keys: arrows or j/k move, s start/stop, t restart, r reload, l logs, q quit.

Example:
  holdfast top";

const CONFIG_EXAMPLE: &str = "\
Examples:
  holdfast config check ./holdfast.toml
  holdfast config show
  holdfast config defaults > holdfast.toml";

/// `holdfast config …`.
#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Report every fault of a configuration at its place; exits with 1 if there is one
    #[command(after_help = "Example:\n  holdfast config check ./holdfast.toml")]
    Check {
        /// The file to check [default: the one the daemon would read]
        path: Option<PathBuf>,
    },
    /// Print the effective configuration, defaults filled in
    #[command(after_help = "Example:\n  holdfast config show --running")]
    Show {
        /// Ask the daemon for the configuration it runs with
        #[arg(long)]
        running: bool,
    },
    /// Print every key with its default, as a commented file to begin with
    #[command(after_help = "Example:\n  holdfast config defaults > holdfast.toml")]
    Defaults,
}

const RELOAD_EXAMPLE: &str = "\
A faulty configuration changes nothing; its faults are printed.

Example:
  holdfast config check && holdfast reload";

const STOP_EXAMPLE: &str = "\
Examples:
  holdfast stop
  holdfast stop --keep-services";

/// `holdfast stop`.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Leave the services running; the next daemon adopts them
    #[arg(long)]
    pub(crate) keep_services: bool,
    /// Return as soon as the daemon has accepted the command
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Stop waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}

const UPGRADE_EXAMPLE: &str = "\
Examples:
  holdfast upgrade
  holdfast upgrade /usr/local/bin/holdfast";

/// `holdfast upgrade`.
#[derive(Args, Debug)]
pub(crate) struct UpgradeArgs {
    /// The new binary [default: the path of the running one, as it is on disk now]
    pub(crate) binary: Option<PathBuf>,
}

const TOKEN_EXAMPLE: &str = "\
The token itself is printed once and stored nowhere; the configuration keeps its SHA-256.

Example:
  holdfast token --name deploy --role act";

/// `holdfast token`.
#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    /// What events and logs call its bearer
    #[arg(long, default_value = "deploy")]
    pub(crate) name: String,
    /// What its bearer may do
    #[arg(long, default_value = "read")]
    pub(crate) role: RoleArg,
}

/// What the bearer of a token may do.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RoleArg {
    /// Look.
    Read,
    /// Look and act.
    Act,
}

const DOCTOR_EXAMPLE: &str = "\
Each check answers YES, NO or CANNOT TELL, with the remedy.

Example:
  holdfast doctor";

const COMPLETIONS_EXAMPLE: &str = "\
Example:
  holdfast completions bash > /etc/bash_completion.d/holdfast";

/// `holdfast completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

const MAN_EXAMPLE: &str = "\
Example:
  holdfast man --dir /usr/share/man/man1";

/// `holdfast man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write one page per command into this directory [default: print the first page]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    base::parse_duration(text).map_err(|why| why.to_string())
}

fn signal(text: &str) -> Result<i32, String> {
    sys::process::signal_number(text)
        .ok_or_else(|| format!("`{text}` is no signal; write a name such as HUP, or 1 to 64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn with_all_below(command: &clap::Command, found: &mut Vec<clap::Command>) {
        found.push(command.clone());
        let shown = |below: &&clap::Command| below.get_name() != "help" && !below.is_hide_set();
        command.get_subcommands().filter(shown).for_each(|below| with_all_below(below, found));
    }

    fn all() -> Vec<clap::Command> {
        let mut root = Cli::command().term_width(90);
        root.build();
        let mut found = Vec::new();
        with_all_below(&root, &mut found);
        found
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_is_as_reviewed() {
        let pages: Vec<String> = all()
            .into_iter()
            .map(|mut command| {
                // The global options are the same everywhere: once, with the first page, is enough.
                let page = command.render_long_help().to_string();
                let own = if command.get_name() == "holdfast" {
                    page
                } else {
                    let (own, rest) = page.split_once("Global options:").unwrap();
                    let (_, example) = rest.split_once("[default: auto]").unwrap();
                    format!("{own}(global options){example}")
                };
                format!("$ {} --help\n{own}", command.get_bin_name().unwrap_or("holdfast"))
            })
            .collect();
        insta::assert_snapshot!(pages.join("\n========\n"));
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        for command in all() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example"), "{}", command.get_name());
        }
    }

    #[test]
    fn what_is_typed_wrongly_is_refused_with_what_would_be_right() {
        for (line, expect) in [
            ("holdfast demo --for 30", "has no unit"),
            ("holdfast service signal NONSENSE web", "is no signal"),
            ("holdfast events --limit 0", "1..=10000"),
            ("holdfast stat", "similar subcommand"),
            ("holdfast service stop", "<NAME>"),
            ("holdfast mode web", "<MODE>"),
            ("holdfast mode web kill", "off, observe, enforce, default"),
        ] {
            let refused = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{line}");
            assert!(refused.to_string().contains(expect), "{line}: {refused}");
        }
    }
}
