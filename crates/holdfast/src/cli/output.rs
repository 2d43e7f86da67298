//! The one place that prints, and the one that decides about colours.
//!
//! Why: a closed pipe (`| head`) must end a command quietly, `NO_COLOR` and `--color` must hold
//! everywhere, and JSON must never be mixed with text.
//! Source: no-color.org; ECMA-48 for the colour sequences.

use super::args::{ColorChoice, Global};
use super::failure::Failure;
use super::text::{self, Look};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Whoever read our output is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed;

/// What a piece of text means; how that looks is decided here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// A heading, a name.
    Strong,
    /// Less important.
    Faint,
    /// As it should be.
    Good,
    /// On its way, or degraded.
    Busy,
    /// Somebody must act.
    Bad,
    /// Something of ours, an address.
    Accent,
}

/// Colours text, or leaves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Paint {
    color: bool,
}

impl Paint {
    /// No colours.
    pub(crate) const PLAIN: Self = Self { color: false };

    /// By `--color`, `NO_COLOR`, `TERM` and whether the stream is a terminal.
    fn choose(choice: ColorChoice, is_terminal: bool) -> Self {
        let unwanted = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                is_terminal && !dumb && !unwanted("NO_COLOR")
            }
        };
        Self { color }
    }

    /// Whether colours are used.
    pub(crate) const fn is_colored(self) -> bool {
        self.color
    }

    /// The text in a tone.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.color || text.is_empty() => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
            Tone::Accent => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Standard output and standard error of a command.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: io::Stdout,
    stderr: io::Stderr,
    /// Colours of standard output.
    pub(crate) paint: Paint,
    /// Colours of standard error.
    paint_errors: Paint,
    /// Standard output is a terminal.
    is_terminal: bool,
    /// JSON is wanted.
    pub(crate) json: bool,
    /// Columns of the terminal, 80 if there is none.
    pub(crate) width: usize,
}

/// Columns to fit where nobody says how wide the output is.
const WIDTH_DEFAULT: usize = 80;

impl Output {
    /// As the global options and the environment say.
    pub(crate) fn new(global: &Global) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let is_terminal = stdout.is_terminal();
        let width = match crossterm::terminal::size() {
            Ok((columns, _)) if is_terminal && 0 < columns => usize::from(columns),
            _ => WIDTH_DEFAULT,
        };
        Self {
            paint: Paint::choose(global.color, is_terminal),
            paint_errors: Paint::choose(global.color, stderr.is_terminal()),
            is_terminal,
            json: global.json,
            width,
            stdout,
            stderr,
        }
    }

    /// What pages for standard output look like.
    pub(crate) fn look(&self) -> Look {
        Look { paint: self.paint, width: self.width }
    }

    /// Prints a page.
    pub(crate) fn page(&self, page: &str) -> Result<(), Closed> {
        self.line(page.trim_end())
    }

    /// Prints text that a service wrote: to a terminal without control characters, into a pipe as
    /// it is.
    pub(crate) fn foreign(&self, lead: &str, text: &str) -> Result<(), Closed> {
        if self.is_terminal {
            self.line(&format!("{lead}{}", text::clean(&text.replace('\t', "    "))))
        } else {
            self.line(&format!("{lead}{text}"))
        }
    }

    /// Prints text and ends the line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Closed> {
        let mut out = self.stdout.lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")) {
            Ok(()) => out.flush().map_err(|_| Closed),
            Err(_) => Err(Closed),
        }
    }

    /// Prints bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Closed> {
        let mut out = self.stdout.lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|_| Closed)
    }

    /// Prints a value as JSON: indented, for one answer.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Closed> {
        self.line(&serde_json::to_string_pretty(value).unwrap_or_default())
    }

    /// Prints a value as one line of JSON, for streams.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) -> Result<(), Closed> {
        self.line(&serde_json::to_string(value).unwrap_or_default())
    }

    /// Says on standard error what a person should know and a pipe should not get.
    pub(crate) fn note(&self, text: &str) {
        // Nobody reads it: there is nobody left to tell.
        let _ = writeln!(self.stderr.lock(), "{}", self.paint_errors.tone(Tone::Faint, text));
    }

    /// Says why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut err = self.stderr.lock();
        if failure.message.is_empty() {
            return;
        }
        let text = if self.json {
            serde_json::to_string(failure).unwrap_or_default()
        } else {
            let mut text = self.paint_errors.tone(Tone::Bad, "error:");
            text.push(' ');
            text.push_str(&failure.message);
            if !failure.help.is_empty() {
                text.push_str("\n  ");
                text.push_str(&self.paint_errors.tone(Tone::Accent, "help:"));
                text.push(' ');
                text.push_str(&failure.help.replace('\n', "\n        "));
            }
            text
        };
        let _ = writeln!(err, "{text}");
    }
}
