//! A dump as records: reads what [`record`](super::record) and `tdbdump` write.
//!
//! Why it is strict: a dump is often all that is left of a database, and what was cut off or edited
//! wrongly must not be taken for the whole.
//! Invariants: no count that the dump announces is believed before as many bytes were read; every
//! fault says its line, and none holds record data; nothing is read after a fault.
//! Source: the TDB specification, section 20.3.

use crate::database::Pair;
use std::io::{self, BufRead};

/// What is wrong with a dump, and in which line of it.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The dump could not be read.
    #[error("failed to read line {line} of the dump")]
    Io {
        /// Where.
        line: u64,
        /// Why not.
        source: io::Error,
    },
    /// Something else stands there.
    #[error("line {line} of the dump: expected {expected}")]
    Form {
        /// Where.
        line: u64,
        /// What a dump has there.
        expected: &'static str,
    },
    /// The dump ends within a record.
    #[error("line {line} of the dump: it ends within a record, before {expected}")]
    End {
        /// Where.
        line: u64,
        /// What should have followed.
        expected: &'static str,
    },
    /// A text has fewer bytes than it announces.
    #[error("line {line} of the dump: the text has {found} of the {announced} bytes it announces")]
    Short {
        /// Where.
        line: u64,
        /// How many it has.
        found: u32,
        /// How many it should have.
        announced: u32,
    },
    /// A text has more bytes than it announces.
    #[error("line {line} of the dump: the text has more than the {announced} bytes it announces")]
    Long {
        /// Where.
        line: u64,
        /// How many it should have.
        announced: u32,
    },
    /// An escape is not one.
    #[error("line {line} of the dump: a `\\` without two hexadecimal digits")]
    Escape {
        /// Where.
        line: u64,
    },
    /// A number of bytes is more than a record can have.
    #[error("line {line} of the dump: a record can't have so many bytes; a TDB file ends at 4 GiB")]
    TooLong {
        /// Where.
        line: u64,
    },
}

/// The records of a dump, one after the other.
///
/// ```
/// let dump = b"{\nkey(1) = \"a\"\ndata(2) = \"\\00b\"\n}\n";
/// let records: Vec<_> = tdb::dump::Reader::new(&dump[..]).collect::<Result<_, _>>()?;
/// assert_eq!(records, [(b"a".to_vec(), b"\0b".to_vec())]);
/// # Ok::<(), tdb::dump::DumpError>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: u64,
    key_line: u64,
    is_over: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads a dump from here.
    pub fn new(input: R) -> Self {
        Self { input, line: 1, key_line: 1, is_over: false }
    }

    /// The line of the key of the record that was read last.
    pub fn key_line(&self) -> u64 {
        self.key_line
    }

    fn record(&mut self) -> Result<Option<Pair>, DumpError> {
        // An editor likes to end a file with an empty line.
        while self.peek()? == Some(b'\n') {
            self.step(b'\n');
        }
        if self.peek()?.is_none() {
            return Ok(None);
        }
        self.word(b"{\n", "`{` alone on its line")?;
        self.key_line = self.line;
        self.word(b"key(", "`key(`, the number of its bytes, and `)`")?;
        let key = self.text()?;
        self.word(b"data(", "`data(`, the number of its bytes, and `)`")?;
        let data = self.text()?;
        self.word(b"}\n", "`}` alone on its line")?;
        Ok(Some((key, data)))
    }

    /// Reads from the number of bytes to the end of the line.
    fn text(&mut self) -> Result<Vec<u8>, DumpError> {
        let announced = self.number()?;
        self.word(b") = \"", "`) = \"` behind the number of bytes")?;
        // It grows with what is really there.
        let mut bytes = Vec::new();
        for found in 0..announced {
            match self.need("the `\"` that ends the text")? {
                b'"' | b'\n' => {
                    return Err(DumpError::Short { line: self.line, found, announced });
                }
                b'\\' => {
                    self.step(b'\\');
                    bytes.push(self.escaped()?);
                }
                plain => {
                    self.step(plain);
                    bytes.push(plain);
                }
            }
        }
        match self.need("the `\"` that ends the text")? {
            b'"' => self.word(b"\"\n", "the end of the line behind the text")?,
            _ => return Err(DumpError::Long { line: self.line, announced }),
        }
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, DumpError> {
        let expected = "the number of bytes, in decimal digits";
        let mut number: Option<u32> = None;
        while let digit @ b'0'..=b'9' = self.need(expected)? {
            self.step(digit);
            let longer = number.unwrap_or(0).checked_mul(10);
            let longer = longer.and_then(|tens| tens.checked_add(u32::from(digit - b'0')));
            number = Some(longer.ok_or(DumpError::TooLong { line: self.line })?);
        }
        number.ok_or(DumpError::Form { line: self.line, expected })
    }

    fn escaped(&mut self) -> Result<u8, DumpError> {
        let mut value = 0;
        for _ in 0..2 {
            let digit = self.need("two hexadecimal digits behind a `\\`")?;
            let worth = char::from(digit).to_digit(16);
            value = value * 16 + worth.ok_or(DumpError::Escape { line: self.line })?;
            self.step(digit);
        }
        Ok(value as u8)
    }

    /// Reads exactly these bytes.
    fn word(&mut self, word: &[u8], expected: &'static str) -> Result<(), DumpError> {
        for &byte in word {
            if self.need(expected)? != byte {
                return Err(DumpError::Form { line: self.line, expected });
            }
            self.step(byte);
        }
        Ok(())
    }

    /// Goes on behind the byte that was looked at.
    fn step(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.input.consume(1);
    }

    fn need(&mut self, expected: &'static str) -> Result<u8, DumpError> {
        self.peek()?.ok_or(DumpError::End { line: self.line, expected })
    }

    /// The next byte, which stays there.
    fn peek(&mut self) -> Result<Option<u8>, DumpError> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DumpError::Io { line: self.line, source }),
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Pair, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let record = self.record().transpose();
        self.is_over = !matches!(record, Some(Ok(_)));
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Read};

    fn read(dump: &[u8]) -> Result<Vec<Pair>, String> {
        Reader::new(dump).collect::<Result<_, _>>().map_err(|why| why.to_string())
    }

    #[test]
    fn a_dump_is_read_whoever_wrote_it() {
        assert_eq!(read(b""), Ok(vec![]));
        let dump = b"{\nkey(3) = \"a\\22b\"\ndata(0) = \"\"\n}\n\n{\nkey(0) = \"\"\ndata(1) = \"\\ff\"\n}\n";
        let records = vec![(b"a\"b".to_vec(), vec![]), (vec![], vec![0xFF])];
        assert_eq!(read(dump), Ok(records));
        let mut reader = Reader::new(&dump[..]);
        let lines: Vec<u64> =
            std::iter::from_fn(|| reader.next().map(|_| reader.key_line())).collect();
        assert_eq!(lines, [2, 7]);
    }

    #[test]
    fn each_damage_is_told_with_its_line() {
        for (dump, line, expect) in [
            ("TDB file\n", 1, "expected `{` alone"),
            ("{", 1, "ends within a record"),
            ("{\"key\": \"a\", \"data\": \"b\"}\n", 1, "expected `{` alone"),
            ("{\nkez(1) = \"a\"\n", 2, "expected `key(`"),
            ("{\ndata(1) = \"a\"\n", 2, "expected `key(`"),
            ("{\nkey() = \"a\"\n", 2, "decimal digits"),
            ("{\nkey(-1) = \"a\"\n", 2, "decimal digits"),
            ("{\nkey(4294967296) = \"a\"\n", 2, "4 GiB"),
            ("{\nkey(99999999999999999999) = \"a\"\n", 2, "4 GiB"),
            ("{\nkey(1 = \"a\"\n", 2, "behind the number"),
            ("{\nkey(4294967295) = \"a\"\n", 2, "has 1 of the 4294967295 bytes"),
            ("{\nkey(2) = \"a\n", 2, "has 1 of the 2 bytes"),
            ("{\nkey(1) = \"ab\"\n", 2, "more than the 1 bytes"),
            ("{\nkey(1) = \"a\" \n", 2, "end of the line"),
            ("{\nkey(1) = \"\\4\"\n", 2, "two hexadecimal digits"),
            ("{\nkey(1) = \"\\\n", 2, "two hexadecimal digits"),
            ("{\nkey(4294967295) = \"a", 2, "ends within a record"),
            ("{\nkey(1) = \"a\"\nkey(1) = \"a\"\n", 3, "expected `data(`"),
            ("{\nkey(1) = \"a\"\ndata(1) = \"a\"\n{\n", 4, "expected `}` alone"),
            ("{\nkey(1) = \"a\"\ndata(1) = \"a\"\n}", 4, "ends within a record"),
            ("{\nkey(1) = \"a\"\ndata(1) = \"a\"\n}\n\nx", 6, "expected `{` alone"),
        ] {
            let said = read(dump.as_bytes()).unwrap_err();
            assert!(said.starts_with(&format!("line {line} of")), "{dump:?}: {said}");
            assert!(said.contains(expect), "{dump:?}: {said}");
        }
    }

    /// Fails when its bytes are used up.
    struct Failing<'a>(&'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("the disk is gone")),
                some => Ok(some),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_end_and_nothing_follows_a_fault() {
        let mut reader = Reader::new(BufReader::new(Failing(b"{\nkey(1)")));
        assert!(matches!(reader.next(), Some(Err(DumpError::Io { line: 2, .. }))));
        assert!(reader.next().is_none());
        let mut reader = Reader::new(&b"x\n{\nkey(0) = \"\"\ndata(0) = \"\"\n}\n"[..]);
        assert!(matches!(reader.next(), Some(Err(DumpError::Form { line: 1, .. }))));
        assert!(reader.next().is_none());
    }

    /// What is made of the pieces of a dump, in any order.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"{\n".to_vec()),
            Just(b"}\n".to_vec()),
            Just(b"key(1) = \"a\"\n".to_vec()),
            Just(b"data(2) = \"\\00b\"\n".to_vec()),
            Just(b"data(4294967295) = \"".to_vec()),
            Just(b"\\".to_vec()),
            Just(b"\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn records_come_back_from_their_text(
            records in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8),
            buffer in 1..50_usize,
        ) {
            let text: String =
                records.iter().map(|(key, data)| super::super::record(key, data)).collect();
            let input = BufReader::with_capacity(buffer, text.as_bytes());
            let read: Result<Vec<Pair>, _> = Reader::new(input).collect();
            prop_assert_eq!(read.unwrap(), records);
            // A dump that was cut off anywhere but between two records is no dump.
            for end in 0..text.len() {
                let cut = text.get(..end).unwrap();
                let whole = cut.is_empty() || cut.ends_with("\n}\n");
                prop_assert_eq!(self::read(cut.as_bytes()).is_ok(), whole, "{}", cut);
            }
        }

        #[test]
        fn garbage_is_told_and_never_panics(garbage in pieces()) {
            let read = read(&garbage);
            if let Ok(records) = read {
                let bytes: usize = records.iter().map(|(key, data)| key.len() + data.len()).sum();
                prop_assert!(bytes <= garbage.len());
            }
        }

        #[test]
        fn bytes_of_any_kind_never_panic(garbage: Vec<u8>) {
            let _ = read(&garbage);
        }
    }
}
