//! A queue with a limit and a declared policy for when it is full.
//!
//! Invariant (conservation): everything pushed was popped, is still inside, was dropped and
//! counted, or was handed back to the caller.

use std::collections::VecDeque;

/// What a full queue does with one more item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// Hands the new item back.
    Reject,
    /// Drops the oldest item and counts it.
    DropOldest,
}

/// The item that a full [`Full::Reject`] queue handed back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected<T>(pub T);

/// First in, first out, never more than `limit` items.
#[derive(Clone, Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    limit: usize,
    full: Full,
    dropped: u64,
}

impl<T> BoundedQueue<T> {
    /// An empty queue. A `limit` of 0 is taken as 1.
    pub fn new(limit: usize, full: Full) -> Self {
        Self { items: VecDeque::new(), limit: limit.max(1), full, dropped: 0 }
    }

    /// Adds an item at the end, by the policy if the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), Rejected<T>> {
        if self.items.len() < self.limit {
            self.items.push_back(item);
            return Ok(());
        }
        match self.full {
            Full::Reject => Err(Rejected(item)),
            Full::DropOldest => {
                self.items.pop_front();
                self.dropped += 1;
                self.items.push_back(item);
                Ok(())
            }
        }
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Looks at the oldest item.
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items were dropped because the queue was full, ever.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b17_a_full_queue_counts_what_it_drops_and_returns_what_it_rejects() {
        let mut oldest = BoundedQueue::new(2, Full::DropOldest);
        (0..5).for_each(|n| oldest.push(n).unwrap());
        assert_eq!((oldest.pop(), oldest.pop(), oldest.pop()), (Some(3), Some(4), None));
        assert_eq!(oldest.dropped(), 3);

        let mut reject = BoundedQueue::new(1, Full::Reject);
        reject.push('a').unwrap();
        assert_eq!(reject.push('b'), Err(Rejected('b')));
        assert_eq!((reject.len(), reject.dropped()), (1, 0));
    }
}
