//! A value while it is changed.

/// The value of a key, or its absence, in the hands of [`Database::update`](crate::Database::update).
#[derive(Debug)]
pub struct Value {
    bytes: Vec<u8>,
    /// True if there is a value, as it stands now.
    is_there: bool,
    fate: Fate,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Kept,
    Set,
    Removed,
}

impl Value {
    pub(crate) fn new(bytes: Vec<u8>, is_there: bool) -> Self {
        Self { bytes, is_there, fate: Fate::Kept }
    }

    pub(crate) fn end(self) -> (Vec<u8>, Fate) {
        (self.bytes, self.fate)
    }

    /// What it is now.
    pub fn get(&self) -> Option<&[u8]> {
        self.is_there.then_some(self.bytes.as_slice())
    }

    /// Puts these bytes in its place.
    pub fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        (self.is_there, self.fate) = (true, Fate::Set);
    }

    /// The bytes to be changed where they are; without a value these are none, and there is one
    /// afterwards.
    pub fn edit(&mut self) -> &mut Vec<u8> {
        (self.is_there, self.fate) = (true, Fate::Set);
        &mut self.bytes
    }

    /// Deletes it.
    pub fn remove(&mut self) {
        self.bytes.clear();
        (self.is_there, self.fate) = (false, Fate::Removed);
    }
}
