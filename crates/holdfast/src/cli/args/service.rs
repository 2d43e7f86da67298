//! The commands that are about services: what is done with them, and how far they are looked after.

use super::{duration, signal};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const SERVICE_EXAMPLE: &str = "\
Examples:
  holdfast service restart web
  holdfast service stop '*' --no-wait
  holdfast service signal USR1 web:1";

/// `holdfast service …`.
#[derive(Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    /// Start services, and what they require
    #[command(after_help = "Example:\n  holdfast service start web")]
    Start(TargetArgs),
    /// Stop services; what requires them is stopped first
    #[command(after_help = "Example:\n  holdfast service stop web worker")]
    Stop(TargetArgs),
    /// Stop and start services; what requires them is left alone
    #[command(after_help = "Example:\n  holdfast service restart web --timeout 2m")]
    Restart(TargetArgs),
    /// Replace services without a failed request, as `tolerance` says: drain, start a successor, stop
    #[command(after_help = "Example:\n  holdfast service replace web")]
    Replace(TargetArgs),
    /// Ask services to read their configuration again
    #[command(after_help = "Example:\n  holdfast service reload web")]
    Reload(TargetArgs),
    /// Send a signal to the main process of services
    #[command(after_help = "Example:\n  holdfast service signal HUP web")]
    Signal {
        /// Name or number: `HUP`, `SIGUSR1`, `15`
        #[arg(value_parser = signal)]
        signal: i32,
        /// Services or instances
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Say that the fault was mended: the workaround ends, and its saves are counted anew
    #[command(after_help = "Example:\n  holdfast service cured web")]
    Cured {
        /// Services or instances
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Forget that services failed, without starting them
    #[command(after_help = "Example:\n  holdfast service reset web")]
    Reset {
        /// Services or instances
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Which services, and whether to wait for them.
#[derive(Args, Debug)]
pub(crate) struct TargetArgs {
    /// Services or instances; `'*'` = all
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Return as soon as the daemon has accepted the command
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Stop waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90s")]
    pub(crate) timeout: Duration,
}

pub(super) const EVIDENCE_EXAMPLE: &str = "\
Examples:
  holdfast evidence list web
  holdfast evidence show web/20261124T102233.123Z-17 threads.txt";

/// `holdfast evidence …`.
#[derive(Subcommand, Debug)]
pub(crate) enum EvidenceCommand {
    /// The bundles that are kept, the newest first
    #[command(after_help = "Example:\n  holdfast evidence list web")]
    List {
        /// A service or an instance
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// What a bundle says of itself, or one of its files
    #[command(
        after_help = "Example:\n  holdfast evidence show web/20261124T102233.123Z-17 stacks-user.txt"
    )]
    Show {
        /// As `list` names it
        #[arg(value_name = "BUNDLE")]
        bundle: String,
        /// One of its files
        #[arg(value_name = "FILE")]
        file: Option<String>,
    },
    /// Write a bundle into a gzipped tar archive
    #[command(
        after_help = "Example:\n  holdfast evidence export web/20261124T102233.123Z-17 -o - | ssh desk tar xz"
    )]
    Export {
        /// As `list` names it
        #[arg(value_name = "BUNDLE")]
        bundle: String,
        /// Where to; `-` = standard output [default: NAME-ID.tar.gz here]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) const MODE_EXAMPLE: &str = "\
The mode holds until somebody sets another; `default` goes back to what the configuration says.
`holdfast status` shows what is sick, what was done about it, or would have been.

Examples:
  holdfast mode web observe
  holdfast mode web:1 worker enforce
  holdfast mode '*' default";

/// `holdfast mode`.
#[derive(Args, Debug)]
pub(crate) struct ModeArgs {
    /// Services or instances; `'*'` = all
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// How much is done
    #[arg(value_name = "MODE")]
    pub(crate) mode: ModeArg,
}

/// How much is done about what is sick.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ModeArg {
    /// Nothing is looked at.
    Off,
    /// Everything is computed, shown and logged; nothing is touched.
    Observe,
    /// What is sick is replaced.
    Enforce,
    /// As the configuration says.
    Default,
}
