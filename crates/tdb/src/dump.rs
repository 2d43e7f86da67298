//! Records as text, in the form of `tdbdump`, and back.
//!
//! Invariant: what was written can be read again, whatever the bytes.
//! Source: the TDB specification, section 20.3.

mod reader;

pub use reader::{DumpError, Reader};

/// One record as the five lines that `tdbdump` prints for it.
pub fn record(key: &[u8], data: &[u8]) -> String {
    let (key_text, data_text) = (escape(key), escape(data));
    let (key_len, data_len) = (key.len(), data.len());
    format!("{{\nkey({key_len}) = \"{key_text}\"\ndata({data_len}) = \"{data_text}\"\n}}\n")
}

/// Printable ASCII as it is, but for `"` and `\`; everything else as `\` with two digits.
pub fn escape(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map_or('0', char::from);
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            text.push(char::from(byte));
        } else {
            text.push('\\');
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
    }
    text
}

/// Text with `\` and two hexadecimal digits for a byte, as bytes; other characters stand for
/// themselves. `None` if a `\` has no two digits behind it.
pub fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((value(digits[0])? * 16 + value(digits[1])?) as u8);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_can_be_read_again() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(escape(&all).as_bytes()), Some(all));
        assert_eq!(escape(b"q\"b\\ \n~\x7F"), "q\\22b\\5C \\0A~\\7F");
        assert_eq!(unescape(b"a\\4"), None);
        assert_eq!(unescape(b"a\\4g"), None);
        assert_eq!(unescape(b"\\4a"), Some(b"J".to_vec()));
    }
}
