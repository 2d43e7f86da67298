//! The one place of this program that prints.
//!
//! Why: the workspace forbids printing elsewhere, so that output stays in one style and a closed
//! pipe (`cargo xtask tidy | head`) ends quietly in one place.

use std::io::Write;
use std::time::Duration;

/// Prints one line (or block) on standard output. A reader that went away is not an error here.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.trim_end_matches('\n').as_bytes());
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}

/// A title between the steps of a long run.
pub(crate) fn title(text: &str) {
    say(&format!("\n== {text}"));
}

/// Whole seconds and tenths, as people read durations of builds.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_540)), "1.5 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
