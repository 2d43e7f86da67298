//! Configuration: TOML to checked types, with every fault reported at its place.
//!
//! Three stages: what stands in the files, with spans → [`Config`], checked, no option left →
//! the running daemon. The first two run on any machine without touching it.
//!
//! **Never**: changes anything, or asks the network. **Stands on**: `toml`, `miette`, and the
//! checked types of the cores.

mod settings;

pub use settings::{
    ApiSettings, Config, ConsoleSettings, DaemonSettings, JournalSettings, Principal, TcpApi,
    TlsFiles, Token,
};
