//! Configuration: TOML to checked types, with every fault reported at its place.
//!
//! Three stages: what stands in the files, with spans → [`Config`], checked, no option left →
//! the running daemon. The first two run on any machine without touching it.
//!
//! **Never**: changes anything, or asks the network. **Stands on**: `toml`, `shell-words`, and
//! the checked types of the cores.

mod settings;

mod load;
mod read;
mod source;
mod syntax;

mod api;
mod assemble;
mod conflict;
mod daemon;
mod graph;
mod hook;
mod mail;
mod service;
mod supervisord;

mod signal;
mod suggest;
mod table;
mod template;
mod value;

mod diagnostic;
mod render;

mod difference;
mod import;
mod modes;
mod show;

pub use assemble::SERVICES_MAX;
pub use daemon::Context;
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Label, Severity};
pub use difference::{Difference, ServiceChange, difference};
pub use import::{ImportWorld, Imported, Note, NoteKind, import_supervisord, load_supervisord};
pub use load::{Loaded, default_path, defaults, load, parse};
pub use modes::{Modes, ModesError, parse_modes};
pub use read::{FILE_BYTES_MAX, FILES_MAX, TOTAL_BYTES_MAX};
pub use settings::{
    ApiSettings, Config, ConsoleSettings, DaemonSettings, HealthSettings, HookSettings,
    JournalSettings, MailSecurity, MailSettings, Principal, SupervisordSettings, TcpApi, TlsFiles,
    Token,
};
pub use show::show;
