//! Changing a database as its users do: single changes, locks that are kept, transactions.
//!
//! Why guards: a lock or a transaction that nobody ends stops every process that shares the file. What
//! is locked ends with the value that stands for it, and while that lives, the handle can't be used in
//! an order in which locks can't be had.
//! Invariant: a transaction that was not committed has changed nothing.
//! Source: the TDB specification, sections 8, 10, 14 and 17.3 to 17.4.

use crate::database::Database;
use crate::engine::{Engine, Met};
use crate::error::{Error, Fault};
use crate::header::List;
use crate::locks::{Kind, Wait};
use crate::patience::Canceller;
use crate::space::Space;
use crate::store::Store;
use crate::transaction::Stage;
use crate::value::Value;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::{ControlFlow, Deref, DerefMut};
use std::time::Duration;

/// Locks belong to the thread that took them, where they are mutexes.
type OfThisThread = PhantomData<*const ()>;

impl Database {
    /// Lets so many deleted records stay on each chain, to be used again for new records of the same
    /// chain without a look at the free list.
    pub fn set_max_dead(&mut self, max_dead: u32) {
        self.engine.settings.max_dead = max_dead;
    }

    /// Counts every change in [`Header::sequence`](crate::Header::sequence) from now on.
    pub fn count_changes(&mut self) {
        self.engine.settings.sequence = true;
    }

    /// How long a lock is waited for from now on; zero = not at all.
    pub fn set_wait(&mut self, limit: Duration) {
        self.engine.locks.limit.set(limit);
    }

    /// What calls off the waits of this handle from another thread.
    pub fn canceller(&self) -> Canceller {
        self.engine.locks.canceller.clone()
    }

    /// Stores a value.
    ///
    /// # Errors
    /// As [`Store`] says; [`Fault::Full`] and [`Fault::Io`] where there is no room, and then the old
    /// value is still there.
    pub fn store(&mut self, key: &[u8], data: &[u8], how: Store) -> Result<(), Error> {
        self.change(|engine| engine.store(key, data, how))
    }

    /// Lets a function look at the value of a key and change it, all under one lock and with one
    /// search: what counters and lists of the living need.
    ///
    /// ```
    /// # let mut database = tdb::Database::in_memory(7, tdb::HashKind::Default)?;
    /// let visits = database.update(b"visits", |value| {
    ///     let before = value.get().and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    ///     value.set(&(before + 1).to_le_bytes());
    ///     before + 1
    /// })?;
    /// assert_eq!(visits, 1);
    /// # Ok::<(), tdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::store`].
    pub fn update<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Value) -> T,
    ) -> Result<T, Error> {
        let mut buffer = self.buffer.take();
        let outcome = self.change(|engine| engine.update(key, &mut buffer, change));
        self.keep_buffer(buffer);
        outcome
    }

    /// Adds bytes to the end of a value; a key without one gets one.
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Result<(), Error> {
        self.update(key, |value| value.edit().extend_from_slice(more))
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if there is none.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.change(|engine| engine.delete(key))
    }

    /// Deletes all values.
    pub fn wipe(&mut self) -> Result<(), Error> {
        self.change(|engine| {
            let _all = engine.lock_all(Kind::Exclusive, Wait::Yes)?;
            engine.wipe()
        })
    }

    /// Looks at every record and deletes those for which `keep` says no; returns how many those were.
    /// Others may change the database meanwhile.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Result<u64, Error> {
        let (mut deleted, mut met) = (0, Met::default());
        for chain in 0..self.engine.shape.hash_size {
            deleted += self.change(|engine| engine.retain_chain(chain, &mut met, &mut keep))?;
        }
        Ok(deleted)
    }

    /// Writes all records anew, close together, in a transaction; what nothing refers to is free
    /// afterwards.
    pub fn repack(&mut self) -> Result<(), Error> {
        let mut transaction = self.transaction()?;
        let (mut records, mut met) = (Vec::new(), BTreeSet::new());
        transaction.traverse(|key, data| {
            // In a damaged file, a key may also stand on a chain that is not its own.
            if met.insert(key.to_vec()) {
                records.push((key.to_vec(), data.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        drop(met);
        transaction.wipe()?;
        // The newest record of a chain stands at its front, so the oldest is stored first.
        for (key, data) in records.iter().rev() {
            transaction.change(|engine| engine.store_new(key, data))?;
        }
        transaction.commit()
    }

    /// Locks the chain of a key: nobody else reads or changes it until the guard goes.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the wait was too long, [`Fault::Cancelled`] when it was called off.
    pub fn lock(&mut self, key: &[u8]) -> Result<ChainLock<'_>, Error> {
        self.lock_chain(key, Kind::Exclusive, Wait::Yes)
    }

    /// As [`Database::lock`], but others may read.
    pub fn lock_shared(&mut self, key: &[u8]) -> Result<ChainLock<'_>, Error> {
        self.lock_chain(key, Kind::Shared, Wait::Yes)
    }

    /// As [`Database::lock`], without waiting: `None` if somebody else has it.
    pub fn try_lock(&mut self, key: &[u8]) -> Result<Option<ChainLock<'_>>, Error> {
        unless_busy(self.lock_chain(key, Kind::Exclusive, Wait::No))
    }

    /// Locks everything: nobody else reads or changes anything until the guard goes.
    pub fn lock_all(&mut self) -> Result<AllLock<'_>, Error> {
        self.lock_everything(Kind::Exclusive, Wait::Yes)
    }

    /// As [`Database::lock_all`], but others may read.
    pub fn lock_all_shared(&mut self) -> Result<AllLock<'_>, Error> {
        self.lock_everything(Kind::Shared, Wait::Yes)
    }

    /// As [`Database::lock_all`], without waiting.
    pub fn try_lock_all(&mut self) -> Result<Option<AllLock<'_>>, Error> {
        unless_busy(self.lock_everything(Kind::Exclusive, Wait::No))
    }

    /// Begins a transaction: changes gather in memory until [`Transaction::commit`]. Others read what
    /// was there before, and wait with their own changes.
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin_transaction(Wait::Yes)
    }

    /// As [`Database::transaction`], without waiting: `None` if others change something.
    pub fn try_transaction(&mut self) -> Result<Option<Transaction<'_>>, Error> {
        unless_busy(self.begin_transaction(Wait::No))
    }

    fn begin_transaction(&mut self, wait: Wait) -> Result<Transaction<'_>, Error> {
        self.writable()?;
        let began = self.engine.begin(wait);
        self.tell(began)?;
        self.spoiled = false;
        Ok(Transaction { database: self, stage: Stage::Open, ended: false, of: PhantomData })
    }

    fn lock_chain(&mut self, key: &[u8], kind: Kind, wait: Wait) -> Result<ChainLock<'_>, Error> {
        let list = self.engine.chain_of(key);
        let locked = self.engine.lock_list_for(list, kind, wait).map(std::mem::forget);
        self.tell(locked)?;
        Ok(ChainLock { database: self, list, of: PhantomData })
    }

    fn lock_everything(&mut self, kind: Kind, wait: Wait) -> Result<AllLock<'_>, Error> {
        let locked = self.engine.lock_all(kind, wait).map(std::mem::forget);
        self.tell(locked)?;
        Ok(AllLock { database: self, of: PhantomData })
    }

    fn writable(&self) -> Result<(), Error> {
        if self.read_only { self.tell(Err(Fault::ReadOnly)) } else { Ok(()) }
    }

    /// Makes a change; one that fails half-way spoils the transaction that it is part of.
    fn change<T>(&mut self, change: impl FnOnce(&Engine) -> Result<T, Fault>) -> Result<T, Error> {
        self.writable()?;
        let outcome = change(&self.engine);
        let harmless = matches!(outcome, Ok(_) | Err(Fault::Exists | Fault::NotFound));
        self.spoiled |= !harmless && matches!(self.engine.space, Space::Overlay(_));
        self.tell(outcome)
    }
}

fn unless_busy<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.fault(), Fault::Busy { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The chain of a key, locked until this goes; the database is used through it.
#[derive(Debug)]
pub struct ChainLock<'a> {
    database: &'a mut Database,
    list: List,
    of: OfThisThread,
}

impl Drop for ChainLock<'_> {
    fn drop(&mut self) {
        self.database.engine.locks.release_list(self.list);
    }
}

/// Everything, locked until this goes; the database is used through it.
#[derive(Debug)]
pub struct AllLock<'a> {
    database: &'a mut Database,
    of: OfThisThread,
}

impl Drop for AllLock<'_> {
    fn drop(&mut self) {
        self.database.engine.locks.release_all();
    }
}

impl AllLock<'_> {
    /// Keeps out those as well who only read, where that was not so from the beginning: waits until
    /// they are gone, while nobody who wants to change something gets in between.
    ///
    /// # Errors
    /// [`Fault::Busy`] and [`Fault::Cancelled`]; then the lock is as it was. Two that hold it shared
    /// and both want more wait for each other, so one of them has to give it up.
    pub fn upgrade(&mut self) -> Result<(), Error> {
        let chains = self.database.engine.shape.hash_size;
        let upgraded = self.database.engine.locks.upgrade_all(chains);
        self.database.tell(upgraded)?;
        self.database.engine.locks.count_as_exclusive();
        Ok(())
    }
}

/// A transaction; the database is used through it. What is not committed did not happen.
///
/// ```no_run
/// # let mut database = tdb::Options::new().open("state.tdb")?;
/// let mut transaction = database.transaction()?;
/// transaction.store(b"from", b"90", tdb::Store::Modify)?;
/// transaction.store(b"to", b"10", tdb::Store::Modify)?;
/// transaction.commit()?;
/// # Ok::<(), tdb::Error>(())
/// ```
#[derive(Debug)]
pub struct Transaction<'a> {
    database: &'a mut Database,
    stage: Stage,
    ended: bool,
    of: OfThisThread,
}

impl<'a> Transaction<'a> {
    /// Writes all changes, or none.
    ///
    /// # Errors
    /// Whatever kept it from being written; then the database is as it was before.
    pub fn commit(self) -> Result<(), Error> {
        self.prepare()?.commit()
    }

    /// Gives the changes up; so does dropping the transaction.
    pub fn cancel(mut self) -> Result<(), Error> {
        self.end()
    }

    /// The first half of a commit: does all that can fail for want of space. Nothing more can be
    /// changed, but the transaction can still be given up.
    pub fn prepare(mut self) -> Result<Prepared<'a>, Error> {
        if self.database.spoiled {
            return self.database.tell(Err(Fault::Spoiled));
        }
        if self.database.engine.is_changed() {
            match self.database.engine.prepare() {
                Ok(stage) => self.stage = stage,
                Err(fault) => {
                    // Nobody knows how far it came, so what may have begun to count is undone.
                    self.ended = true;
                    let _undone = self.database.engine.end_undone();
                    return self.database.tell(Err(fault));
                }
            }
        }
        Ok(Prepared { transaction: self })
    }

    fn end(&mut self) -> Result<(), Error> {
        self.ended = true;
        let ended = match self.stage {
            Stage::Open => self.database.engine.end(self.stage),
            Stage::Prepared { .. } => self.database.engine.end_undone(),
        };
        self.database.tell(ended)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody is left to be told; whoever comes next undoes what could not be undone here.
            let _ended = self.end();
        }
    }
}

/// A transaction that is ready to be written.
#[derive(Debug)]
pub struct Prepared<'a> {
    transaction: Transaction<'a>,
}

impl Prepared<'_> {
    /// Writes what was prepared.
    ///
    /// # Errors
    /// Whatever kept it from being written; then the database is as it was before. Only if the very
    /// last step fails, to wait for the disk, is it written and perhaps not safe from power loss.
    pub fn commit(mut self) -> Result<(), Error> {
        let Transaction { database, stage, .. } = &mut self.transaction;
        let written = database.engine.write_out();
        database.tell(written)?;
        let ended = database.engine.end(*stage);
        let told = database.tell(ended);
        self.transaction.ended = true;
        told
    }

    /// Gives the changes up; so does dropping this.
    pub fn cancel(mut self) -> Result<(), Error> {
        self.transaction.end()
    }
}

macro_rules! uses_database {
    ($($guard:ident),*) => {$(
        impl Deref for $guard<'_> {
            type Target = Database;

            fn deref(&self) -> &Database {
                self.database
            }
        }

        impl DerefMut for $guard<'_> {
            fn deref_mut(&mut self) -> &mut Database {
                self.database
            }
        }
    )*};
}

uses_database!(ChainLock, AllLock, Transaction);
