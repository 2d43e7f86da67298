//! Lets the oldest events go, by age and by size.

use super::{Journal, JournalError, classify};
use rusqlite::params;

/// Events deleted in one transaction: bounds the write-ahead log and the time others wait.
const PRUNE_BATCH: i64 = 5_000;

impl Journal {
    /// Deletes what is older than the retention's age at `now_us` (microseconds since the epoch),
    /// and the oldest events while the database is larger than its size. Returns how many.
    pub fn prune(&mut self, now_us: i64) -> Result<usize, JournalError> {
        let age_us = i64::try_from(self.retention.age_max.as_micros()).unwrap_or(i64::MAX);
        let oldest_kept = now_us.saturating_sub(age_us);
        let mut removed = 0;
        loop {
            let batch = self.delete_older_than(oldest_kept)?;
            removed += batch;
            if batch < PRUNE_BATCH as usize {
                break;
            }
        }
        while self.retention.size_max.0 < self.used_bytes()? {
            let batch = self.delete_oldest()?;
            removed += batch;
            if batch == 0 {
                break;
            }
        }
        if 0 < removed {
            self.give_back()?;
        }
        Ok(removed)
    }

    /// Bytes of the database that hold something.
    pub fn used_bytes(&self) -> Result<u64, JournalError> {
        let number = |name| -> Result<i64, JournalError> {
            let read = self.db.pragma_query_value(None, name, |row| row.get(0));
            read.map_err(|error| classify(error, "read", self.path()))
        };
        let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
        Ok(pages.saturating_mul(number("page_size")?).cast_unsigned())
    }

    fn delete_older_than(&mut self, oldest_kept: i64) -> Result<usize, JournalError> {
        let deleted = self.db.execute(
            "DELETE FROM events WHERE seq IN \
             (SELECT seq FROM events WHERE wall_us < ?1 ORDER BY wall_us LIMIT ?2)",
            params![oldest_kept, PRUNE_BATCH],
        );
        deleted.map_err(|error| classify(error, "prune", self.path()))
    }

    /// A tenth of the events, but not more than a batch: so a small journal is not emptied at once.
    fn delete_oldest(&mut self) -> Result<usize, JournalError> {
        let deleted = self.db.execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events ORDER BY seq LIMIT \
             min(?1, 1 + (SELECT count(*) FROM events) / 10))",
            params![PRUNE_BATCH],
        );
        deleted.map_err(|error| classify(error, "prune", self.path()))
    }

    /// Returns free pages to the file system.
    fn give_back(&mut self) -> Result<(), JournalError> {
        for order in ["PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            self.run_to_end(order).map_err(|error| classify(error, "prune", self.path()))?;
        }
        Ok(())
    }

    /// Each row of the vacuum is one page: it only happens while rows are asked for.
    fn run_to_end(&self, order: &str) -> rusqlite::Result<()> {
        let mut statement = self.db.prepare(order)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}
