//! Our own log, on standard error. (What services say goes elsewhere.)

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Whether the log may be coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colour {
    /// If a terminal shows it.
    OnTerminals,
    /// Another process passes it on.
    Never,
}

/// Begins it. `filter`: a level, or levels by module (`warn,holdfast::root=debug`); one that is
/// neither counts as `info`. A log that was begun before stays.
pub(crate) fn start(filter: &str, colour: Colour) {
    let ansi = match colour {
        Colour::OnTerminals => std::io::IsTerminal::is_terminal(&std::io::stderr()),
        Colour::Never => false,
    };
    let started = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_target(false)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .finish()
        .with(targets(filter))
        .try_init();
    drop(started);
}

fn targets(filter: &str) -> Targets {
    filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        let passes =
            |filter: &str, target: &str, level| targets(filter).would_enable(target, &level);
        assert!(passes("warn", "holdfast::root", Level::WARN));
        assert!(!passes("warn", "holdfast::root", Level::INFO));
        assert!(passes("warn,holdfast::root=debug", "holdfast::root::turn", Level::DEBUG));
        assert!(!passes("warn,holdfast::root=debug", "hyper", Level::INFO));
        assert!(passes("no=such,level", "holdfast::logs", Level::INFO));
        assert!(!passes("no=such,level", "holdfast::logs", Level::DEBUG));
    }
}
