//! What one user does alone.

use crate::asked::Asked;
use crate::clock::Span;
use crate::keys::{Random, Values, count, key};
use std::error::Error;
use std::ops::ControlFlow;
use tdb::{Database, Store};

/// Values that a transaction stores.
const STORES: usize = 10;

type Told = Result<String, Box<dyn Error>>;

/// Fetches values of random keys.
pub(crate) fn fetch(asked: &Asked) -> Told {
    let database = asked.open()?;
    let mut random = Random::new(1);
    let mut span = Span::begin(asked.ms);
    while span.goes_on() {
        let value = database.fetch(&key(random.below(asked.records)))?;
        if value.is_none_or(|value| value.len() as u64 != asked.value) {
            return Err("a value is missing".into());
        }
    }
    Ok(span.told())
}

/// Stores values of random keys, which stay where they are.
pub(crate) fn store(asked: &Asked) -> Told {
    let mut database = asked.open()?;
    let (mut random, mut values) = (Random::new(1), Values::new(asked.value));
    let mut span = Span::begin(asked.ms);
    while span.goes_on() {
        database.store(&key(random.below(asked.records)), values.next(), Store::Replace)?;
    }
    Ok(span.told())
}

/// Stores new records, and deletes each some time later.
pub(crate) fn churn(asked: &Asked) -> Told {
    let mut database = asked.open()?;
    let mut values = Values::new(asked.value);
    let mut number = asked.records;
    let mut span = Span::begin(asked.ms);
    while span.goes_on() {
        database.store(&key(number), values.next(), Store::Insert)?;
        if asked.records + asked.window <= number {
            database.delete(&key(number - asked.window))?;
        }
        number += 1;
    }
    Ok(span.told())
}

/// Changes values, each by one call, which locks, looks, changes and unlocks.
pub(crate) fn update(asked: &Asked) -> Told {
    let mut database = asked.open()?;
    let mut random = Random::new(1);
    let mut span = Span::begin(asked.ms);
    while span.goes_on() {
        update_one(&mut database, asked, &mut random)?;
    }
    Ok(span.told())
}

pub(crate) fn update_one(
    database: &mut Database,
    asked: &Asked,
    random: &mut Random,
) -> Result<(), Box<dyn Error>> {
    let key = key(if asked.keys == 1 { 0 } else { random.below(asked.records) });
    database.update(&key, |value| match value.get() {
        Some(_) => count(value.edit()),
        None => Err("a value is missing".into()),
    })?
}

/// Locks chains, and changes a value of each, by a call for each step.
pub(crate) fn steps(asked: &Asked) -> Told {
    let mut database = asked.open()?;
    let mut random = Random::new(1);
    let mut span = Span::begin(asked.ms);
    while span.goes_on() {
        let key = key(if asked.keys == 1 { 0 } else { random.below(asked.records) });
        let mut chain = database.lock(&key)?;
        let mut value = chain.fetch(&key)?.ok_or("a value is missing")?;
        count(&mut value)?;
        chain.store(&key, &value, Store::Modify)?;
    }
    Ok(span.told())
}

/// Looks at all records.
pub(crate) fn traverse(asked: &Asked) -> Told {
    let database = asked.open()?;
    let mut bytes = 0;
    let span = Span::begin(0);
    let visited = database.traverse(|key, value| {
        bytes += key.len() + value.len();
        ControlFlow::Continue(())
    })?;
    if visited != asked.records || bytes as u64 != asked.records * (16 + asked.value) {
        return Err("not all records were visited".into());
    }
    Ok(span.told_of(visited))
}

/// Stores values of random keys in transactions.
pub(crate) fn commit(asked: &Asked) -> Told {
    let mut database = asked.open()?;
    let (mut random, mut values) = (Random::new(1), Values::new(asked.value));
    let mut span = Span::begin(asked.ms);
    while span.goes_on_now() {
        let mut transaction = database.transaction()?;
        for _ in 0..STORES {
            transaction.store(&key(random.below(asked.records)), values.next(), Store::Replace)?;
        }
        transaction.commit()?;
    }
    Ok(span.told())
}
