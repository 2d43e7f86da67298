//! A value of XML-RPC.

/// Anything that can be sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `<nil/>`.
    Nil,
    /// `<boolean>`.
    Bool(bool),
    /// `<int>`, `<i4>`, `<i8>`.
    Int(i64),
    /// `<double>`; finite.
    Double(f64),
    /// `<string>`, or text without a type.
    Text(String),
    /// `<base64>`.
    Bytes(Vec<u8>),
    /// `<dateTime.iso8601>`, as it stands.
    Date(String),
    /// `<array>`.
    Array(Vec<Value>),
    /// `<struct>`, members in order.
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A struct.
    pub fn members<const N: usize>(members: [(&str, Value); N]) -> Self {
        Self::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A member of a struct; the last one where a name comes twice.
    pub fn member(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Struct(members) => {
                members.iter().rfind(|(found, _)| found == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}
