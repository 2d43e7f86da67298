//! One piece of work for the crate `tdb`, timed: the counterpart of `xtask/assets/tdb.c`, which does
//! the same by libtdb. Both read the same arguments and print one line of JSON;
//! `cargo xtask bench tdb` runs them in turns.
//!
//! Why a program of its own: both sides then begin, open their file and read their clocks alike.
//! Invariant: what is done for one operation, and to which keys, is the same in both programs.

mod asked;
mod clock;
mod crowd;
mod keys;
mod works;

use asked::Asked;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "usage: bench WORK FILE [name=number ...]; see xtask/assets/tdb.c";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = run(&words).and_then(|line| Ok(writeln!(std::io::stdout(), "{line}")?));
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Nobody is left to be told if that fails.
    let _told = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn run(words: &[String]) -> Result<String, Box<dyn Error>> {
    let [work, file, options @ ..] = words else { return Err(USAGE.into()) };
    let asked = Asked::read(file, options)?;
    match work.as_str() {
        "fetch" => works::fetch(&asked),
        "store" => works::store(&asked),
        "churn" => works::churn(&asked),
        "update" => works::update(&asked),
        "steps" => works::steps(&asked),
        "traverse" => works::traverse(&asked),
        "commit" => works::commit(&asked),
        "crowd" => crowd::crowd(&asked),
        "contend" => crowd::contend(&asked),
        _ => Err(format!("there is no work `{work}`\n{USAGE}").into()),
    }
}
