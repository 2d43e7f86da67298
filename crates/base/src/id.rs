//! Identities. No bare string or integer stands for one of these.

use std::fmt;
use std::str::FromStr;

/// Longest service name in bytes: it becomes part of file names, socket paths (at most 107 bytes
/// in all, unix(7)) and cgroup names.
pub const NAME_BYTES_MAX: usize = 48;

/// The name of a service: 1 to 48 of `A-Z a-z 0-9 _ . -`, beginning with a letter or a digit.
///
/// Safe as a file name, a metric label and a piece of a URL, by construction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceName(String);

/// Why a text is not a [`ServiceName`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name can't be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The first character is no letter and no digit.
    #[error("a name begins with a letter or a digit, not `{0}`")]
    BadStart(char),
    /// A character that is not allowed.
    #[error("a name is made of letters, digits, `_`, `.` and `-`; `{0}` is none of these")]
    BadCharacter(char),
}

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
        if NAME_BYTES_MAX < text.len() {
            return Err(NameError::TooLong(text.len()));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::BadStart(first));
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match text.chars().find(|c| !allowed(c)) {
            Some(bad) => Err(NameError::BadCharacter(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One instance of a service: `web` where the service has a single one, else `web:0`, `web:1`, …
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId {
    /// The service.
    pub service: ServiceName,
    /// Which of its instances; `None` where there can be only one.
    pub index: Option<u16>,
}

impl InstanceId {
    /// The number that `{index}` stands for: 0 where there is a single instance.
    pub fn number(&self) -> u16 {
        self.index.unwrap_or(0)
    }
}

impl FromStr for InstanceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(':') {
            None => Ok(Self { service: text.parse()?, index: None }),
            Some((service, index)) => {
                let number = index.parse::<u16>().map_err(|_| NameError::BadCharacter(':'))?;
                Ok(Self { service: service.parse()?, index: Some(number) })
            }
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.service),
            Some(index) => write!(f, "{}:{index}", self.service),
        }
    }
}

/// One life of one instance, from spawn to verified end. Never reused within a state directory,
/// so that a late answer about an earlier life can't touch a later one (B2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        assert!("web-1.example_x".parse::<ServiceName>().is_ok());
        assert_eq!("".parse::<ServiceName>(), Err(NameError::Empty));
        assert_eq!("../etc".parse::<ServiceName>(), Err(NameError::BadStart('.')));
        assert_eq!("a/b".parse::<ServiceName>(), Err(NameError::BadCharacter('/')));
        assert_eq!("a b".parse::<ServiceName>(), Err(NameError::BadCharacter(' ')));
        assert_eq!("x".repeat(49).parse::<ServiceName>(), Err(NameError::TooLong(49)));
    }

    #[test]
    fn instances_read_back_as_written() {
        for text in ["web", "web:0", "web:65535"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
        }
        assert!("web:65536".parse::<InstanceId>().is_err());
        assert!("web:".parse::<InstanceId>().is_err());
    }
}
