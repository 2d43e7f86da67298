//! Questions to the journal.
//!
//! Every value reaches SQLite as a bound parameter: nothing a client sends is ever part of the SQL.

use super::{Journal, JournalError, classify};
use control::{EventRecord, Severity};
use rusqlite::Row;
use rusqlite::types::Value;

/// The most events of one answer; more are asked for page by page with `after_seq`.
pub const QUERY_LIMIT_MAX: usize = 10_000;

/// Which end comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first: with a limit, the latest events.
    Descending,
}

/// Which events. All given conditions hold together; the default asks for everything, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// Only events with a larger number.
    pub after_seq: Option<u64>,
    /// Only at or after this, microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Only before this, microseconds since the epoch.
    pub until_us: Option<i64>,
    /// About this subject: `web` also means its instances `web:0`, `web:1`, …; `web:1` only itself.
    pub subject: Option<String>,
    /// The kind begins with this: `service.`.
    pub kind_prefix: Option<String>,
    /// At least this severe.
    pub severity_min: Option<Severity>,
    /// At most so many; more than [`QUERY_LIMIT_MAX`] is taken as that.
    pub limit: usize,
    /// Which end first.
    pub order: Order,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            after_seq: None,
            since_us: None,
            until_us: None,
            subject: None,
            kind_prefix: None,
            severity_min: None,
            limit: QUERY_LIMIT_MAX,
            order: Order::Ascending,
        }
    }
}

impl Journal {
    /// The events that fit, in the wanted order.
    pub fn query(&self, query: &Query) -> Result<Vec<EventRecord>, JournalError> {
        self.select(query).map_err(|error| classify(error, "read", self.path()))
    }

    fn select(&self, query: &Query) -> rusqlite::Result<Vec<EventRecord>> {
        let (sql, values) = to_sql(query);
        let mut statement = self.db.prepare(&sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), read_row)?;
        rows.collect()
    }
}

fn to_sql(query: &Query) -> (String, Vec<Value>) {
    let mut conditions = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    if let Some(after) = query.after_seq {
        conditions.push("? < seq");
        values.push(i64::try_from(after).unwrap_or(i64::MAX).into());
    }
    if let Some(since) = query.since_us {
        conditions.push("? <= wall_us");
        values.push(since.into());
    }
    if let Some(until) = query.until_us {
        conditions.push("wall_us < ?");
        values.push(until.into());
    }
    if let Some(subject) = &query.subject {
        // `;` is the character behind `:`, so that this is exactly what begins with `web:`.
        conditions.push("(subject = ? OR (? <= subject AND subject < ?))");
        values.push(subject.clone().into());
        values.push(format!("{subject}:").into());
        values.push(format!("{subject};").into());
    }
    if let Some(prefix) = &query.kind_prefix {
        conditions.push("substr(kind, 1, length(?)) = ?");
        values.push(prefix.clone().into());
        values.push(prefix.clone().into());
    }
    if let Some(least) = query.severity_min {
        conditions.push("? <= severity");
        values.push(severity_to_number(least).into());
    }
    let filter = if conditions.is_empty() { String::new() } else { conditions.join(" AND ") };
    let keyword = if filter.is_empty() { "" } else { " WHERE " };
    let order = match query.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    values.push((query.limit.min(QUERY_LIMIT_MAX) as i64).into());
    let sql = format!(
        "SELECT seq, source, source_seq, wall_us, mono_ns, node, subject, kind, severity, message, \
         data FROM events{keyword}{filter} ORDER BY seq {order} LIMIT ?"
    );
    (sql, values)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let data: Option<String> = row.get(10)?;
    Ok(EventRecord {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        source: row.get(1)?,
        source_seq: row.get::<_, i64>(2)?.cast_unsigned(),
        wall_us: row.get(3)?,
        mono_ns: row.get::<_, i64>(4)?.cast_unsigned(),
        node: row.get(5)?,
        subject: row.get(6)?,
        kind: row.get(7)?,
        severity: severity_from_number(row.get(8)?),
        message: row.get(9)?,
        data: match data {
            None => serde_json::Map::new(),
            Some(text) => serde_json::from_str(&text).map_err(unreadable)?,
        },
    })
}

/// JSON that can't be written or read, in SQLite's words.
pub(super) fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

pub(super) const fn severity_to_number(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Error => 2,
    }
}

/// What a later version may have added is at least an error.
const fn severity_from_number(number: i64) -> Severity {
    match number {
        0 => Severity::Info,
        1 => Severity::Warning,
        _ => Severity::Error,
    }
}
