//! What is asked of a piece of work: `name=number`, as in the program for libtdb.

use std::error::Error;
use std::path::{Path, PathBuf};
use tdb::{Database, Options};

/// The arguments, each with the same default as in the program for libtdb.
pub(crate) struct Asked {
    pub(crate) file: PathBuf,
    /// libtdb's program, for who needs a process that holds locks.
    pub(crate) holder: PathBuf,
    pub(crate) records: u64,
    pub(crate) value: u64,
    pub(crate) window: u64,
    pub(crate) keys: u64,
    pub(crate) users: u64,
    pub(crate) rounds: u64,
    pub(crate) hold_ns: u64,
    pub(crate) ms: u64,
    pub(crate) mutexes: u64,
    unlocked: u64,
    volatile: u64,
    sync: u64,
}

impl Asked {
    pub(crate) fn read(file: &str, options: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut asked = Self {
            file: file.into(),
            holder: PathBuf::new(),
            records: 10_000,
            value: 100,
            window: 100,
            keys: 0,
            users: 1,
            rounds: 10,
            hold_ns: 0,
            ms: 200,
            mutexes: 0,
            unlocked: 0,
            volatile: 0,
            sync: 0,
        };
        for option in options {
            let (name, value) = option.split_once('=').ok_or("options are name=value")?;
            if name == "holder" {
                asked.holder = value.into();
                continue;
            }
            *asked.number(name).ok_or_else(|| format!("unknown option {name}"))? = value.parse()?;
        }
        Ok(asked)
    }

    fn number(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "records" => &mut self.records,
            "value" => &mut self.value,
            "window" => &mut self.window,
            "keys" => &mut self.keys,
            "users" => &mut self.users,
            "rounds" => &mut self.rounds,
            "hold_ns" => &mut self.hold_ns,
            "ms" => &mut self.ms,
            "mutexes" => &mut self.mutexes,
            "unlocked" => &mut self.unlocked,
            "volatile" => &mut self.volatile,
            "sync" => &mut self.sync,
            _ => return None,
        })
    }

    /// Opens the file, which says itself whether it has mutexes.
    pub(crate) fn open(&self) -> Result<Database, tdb::Error> {
        let mut options = Options::new();
        if self.unlocked != 0 {
            options = options.unlocked();
        }
        if self.volatile != 0 {
            options = options.volatile();
        }
        if self.sync == 0 {
            options = options.unsynced();
        }
        options.open(Path::new(&self.file))
    }
}
