//! What may be done with bytes of any kind without a panic, a hang or more memory than they are worth.
//!
//! Why here: libFuzzer calls these functions with bytes it makes up (`cargo xtask fuzz`), and the
//! tests call them with the bytes it has found to be interesting (`tests/corpus`), so what was mended
//! stays mended where nobody has a fuzzer.
//! Invariant: a function here returns whatever the bytes are, unless the crate has a fault.

mod dump;
mod read;
mod recovery;
mod scratch;
mod write;

pub(crate) use dump::dump;
pub(crate) use read::read;
pub(crate) use recovery::recovery;
pub(crate) use write::write;

#[cfg(test)]
mod replay;
