//! XML to values.
//!
//! Why strict: the text comes from whoever may connect. There is no document type and no entity but
//! the five that XML itself defines, so that nothing can be expanded; depth and number of values are
//! bounded before anything is built.
//! Invariants: never panics; uses memory in proportion to the text.

use super::{MethodCall, Value};
use crate::fault::RpcFault;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use quick_xml::events::{BytesDecl, BytesRef, Event};
use quick_xml::{Reader, XmlVersion};

/// Arrays and structs within each other. `system.multicall` needs four.
pub const DEPTH_MAX: usize = 32;

/// Values of one message.
pub const VALUES_MAX: usize = 65_536;

/// Bytes of one message that is read, calls and responses.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// Not UTF-8.
    #[error("the message is not UTF-8")]
    Encoding,
    /// Not well-formed, or cut short.
    #[error("the message is no XML: {0}")]
    Xml(String),
    /// A document type or an entity of its own: nothing that XML-RPC has.
    #[error("the message has {0}, which XML-RPC does not have")]
    Refused(&'static str),
    /// Well-formed, but not what XML-RPC defines.
    #[error("the message is no XML-RPC: {0}")]
    Shape(String),
    /// Beyond a limit.
    #[error("the message has more than {0}")]
    TooMuch(String),
}

/// Reads a method call.
pub fn read_call(bytes: &[u8]) -> Result<MethodCall, CallError> {
    let mut parser = Parser::new(bytes)?;
    parser.open("methodCall")?;
    let method = parser.text_of("methodName")?;
    let params = match parser.markup()? {
        // A call without parameters may leave them out.
        Token::Close => Vec::new(),
        Token::Open(name) if name == "params" => {
            let params = parser.params()?;
            parser.close()?;
            params
        }
        other => return Err(other.unexpected("<params>")),
    };
    parser.end()?;
    Ok(MethodCall { method: method.trim().to_owned(), params })
}

/// Reads a response: its value, or the fault that it carries.
pub fn read_response(bytes: &[u8]) -> Result<Result<Value, RpcFault>, CallError> {
    let mut parser = Parser::new(bytes)?;
    parser.open("methodResponse")?;
    let answer = match parser.markup()? {
        Token::Open(name) if name == "params" => {
            parser.open("param")?;
            let value = parser.param()?;
            parser.close()?;
            Ok(value)
        }
        Token::Open(name) if name == "fault" => {
            let value = parser.param()?;
            Err(RpcFault::from_value(&value).ok_or_else(|| shape("a fault without its members"))?)
        }
        other => return Err(other.unexpected("<params> or <fault>")),
    };
    parser.close()?;
    parser.end()?;
    Ok(answer)
}

/// A piece of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Open(String),
    Close,
    Text(String),
    End,
}

impl Token {
    fn unexpected(&self, wanted: &str) -> CallError {
        let found = match self {
            Self::Open(name) => format!("<{}>", name.chars().take(40).collect::<String>()),
            Self::Close => "the end of an element".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::End => "the end of the message".to_owned(),
        };
        shape(&format!("{found} where {wanted} was expected"))
    }
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    /// Read already, and not yet taken.
    next: Option<Token>,
    depth: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, CallError> {
        if MESSAGE_BYTES_MAX < bytes.len() {
            return Err(CallError::TooMuch(format!("{MESSAGE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| CallError::Encoding)?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{FEFF}').trim_start());
        reader.config_mut().expand_empty_elements = true;
        Ok(Self { reader, next: None, depth: 0, values: 0 })
    }

    /// The next token; neighbouring texts are one.
    fn take(&mut self) -> Result<Token, CallError> {
        if let Some(token) = self.next.take() {
            return Ok(token);
        }
        let mut text: Option<String> = None;
        loop {
            let event = self.reader.read_event();
            let event = event.map_err(|error| CallError::Xml(error.to_string()))?;
            let markup = match event {
                Event::Text(piece) => {
                    let piece = piece.xml_content(XmlVersion::Implicit1_0);
                    text.get_or_insert_default().push_str(&piece);
                    continue;
                }
                Event::CData(piece) => {
                    let piece = piece.xml_content(XmlVersion::Implicit1_0);
                    text.get_or_insert_default().push_str(&piece);
                    continue;
                }
                Event::GeneralRef(reference) => {
                    text.get_or_insert_default().push(resolve(&reference)?);
                    continue;
                }
                Event::Comment(_) | Event::PI(_) => continue,
                Event::Decl(decl) => {
                    check_encoding(&decl)?;
                    continue;
                }
                Event::DocType(_) => return Err(CallError::Refused("a document type")),
                Event::Start(tag) | Event::Empty(tag) => Token::Open(tag.name().0.to_owned()),
                Event::End(_) => Token::Close,
                Event::Eof => Token::End,
            };
            return Ok(match text {
                Some(text) => {
                    self.next = Some(markup);
                    Token::Text(text)
                }
                None => markup,
            });
        }
    }

    /// The next token that is not blank.
    fn markup(&mut self) -> Result<Token, CallError> {
        match self.take()? {
            Token::Text(text) if text.trim().is_empty() => self.take(),
            token => Ok(token),
        }
    }

    fn open(&mut self, name: &str) -> Result<(), CallError> {
        match self.markup()? {
            Token::Open(found) if found == name => Ok(()),
            other => Err(other.unexpected(&format!("<{name}>"))),
        }
    }

    fn close(&mut self) -> Result<(), CallError> {
        match self.markup()? {
            Token::Close => Ok(()),
            other => Err(other.unexpected("the end of an element")),
        }
    }

    fn end(&mut self) -> Result<(), CallError> {
        match self.markup()? {
            Token::End => Ok(()),
            other => Err(other.unexpected("the end of the message")),
        }
    }

    /// What stands in an open `<params>`, with its end.
    fn params(&mut self) -> Result<Vec<Value>, CallError> {
        let mut params = Vec::new();
        loop {
            match self.markup()? {
                Token::Open(name) if name == "param" => params.push(self.param()?),
                Token::Close => return Ok(params),
                other => return Err(other.unexpected("<param>")),
            }
        }
    }

    /// An element that holds text.
    fn text_of(&mut self, name: &str) -> Result<String, CallError> {
        self.open(name)?;
        self.rest_as_text()
    }

    /// The text up to the end of the element that is open.
    fn rest_as_text(&mut self) -> Result<String, CallError> {
        match self.take()? {
            Token::Close => Ok(String::new()),
            Token::Text(text) => {
                self.close()?;
                Ok(text)
            }
            other => Err(other.unexpected("text")),
        }
    }

    /// `<value>…</value>` and the end of what it stands in.
    fn param(&mut self) -> Result<Value, CallError> {
        self.open("value")?;
        let value = self.value()?;
        self.close()?;
        Ok(value)
    }

    /// What stands in an open `<value>`, with its end.
    fn value(&mut self) -> Result<Value, CallError> {
        self.values += 1;
        if VALUES_MAX < self.values {
            return Err(CallError::TooMuch(format!("{VALUES_MAX} values")));
        }
        let before = self.take()?;
        let token = match before {
            Token::Close => return Ok(Value::Text(String::new())),
            Token::Text(text) => match self.take()? {
                // Text without a type is a string, with its blanks.
                Token::Close => return Ok(Value::Text(text)),
                token if text.trim().is_empty() => token,
                other => return Err(other.unexpected("the end of a text")),
            },
            token => token,
        };
        let Token::Open(kind) = token else { return Err(token.unexpected("a value")) };
        let value = match kind.as_str() {
            "array" => self.within(Self::array)?,
            "struct" => self.within(Self::members)?,
            scalar => {
                let text = self.rest_as_text()?;
                read_scalar(scalar, text)?
            }
        };
        self.close()?;
        Ok(value)
    }

    fn within(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value, CallError>,
    ) -> Result<Value, CallError> {
        if self.depth == DEPTH_MAX {
            return Err(CallError::TooMuch(format!("{DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Result<Value, CallError> {
        self.open("data")?;
        let mut items = Vec::new();
        loop {
            match self.markup()? {
                Token::Open(name) if name == "value" => items.push(self.value()?),
                Token::Close => break,
                other => return Err(other.unexpected("<value>")),
            }
        }
        self.close()?;
        Ok(Value::Array(items))
    }

    fn members(&mut self) -> Result<Value, CallError> {
        let mut members = Vec::new();
        loop {
            match self.markup()? {
                Token::Open(name) if name == "member" => {
                    let name = self.text_of("name")?;
                    members.push((name, self.param()?));
                }
                Token::Close => return Ok(Value::Struct(members)),
                other => return Err(other.unexpected("<member>")),
            }
        }
    }
}

fn read_scalar(kind: &str, text: String) -> Result<Value, CallError> {
    let trimmed = text.trim();
    let bad = || {
        let shown: String = trimmed.chars().take(40).collect();
        shape(&format!("`{shown}` is no {kind}"))
    };
    Ok(match kind {
        "string" => Value::Text(text),
        "int" | "i4" | "i8" | "i2" | "i1" | "ex:i8" | "ex:i2" | "ex:i1" => {
            Value::Int(trimmed.parse().map_err(|_| bad())?)
        }
        "boolean" => match trimmed {
            "1" => Value::Bool(true),
            "0" => Value::Bool(false),
            _ => return Err(bad()),
        },
        "double" | "float" => {
            let number = trimmed.parse::<f64>().ok().filter(|number| number.is_finite());
            Value::Double(number.ok_or_else(bad)?)
        }
        "base64" => {
            let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            Value::Bytes(LENIENT.decode(compact).map_err(|_| bad())?)
        }
        "dateTime.iso8601" => Value::Date(trimmed.to_owned()),
        "nil" | "ex:nil" if trimmed.is_empty() => Value::Nil,
        _ => {
            let kind: String = kind.chars().take(40).collect();
            return Err(shape(&format!("<{kind}> is no type of a value")));
        }
    })
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, CallError> {
    if let Some(c) =
        reference.resolve_char_ref().map_err(|error| CallError::Xml(error.to_string()))?
    {
        return Ok(c);
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(CallError::Refused("an entity of its own")),
    }
}

fn check_encoding(decl: &BytesDecl<'_>) -> Result<(), CallError> {
    match decl.encoding() {
        None => Ok(()),
        Some(Ok(name))
            if ["utf-8", "utf8", "us-ascii", "ascii"].contains(&&*name.to_lowercase()) =>
        {
            Ok(())
        }
        Some(_) => Err(CallError::Encoding),
    }
}

fn shape(what: &str) -> CallError {
    CallError::Shape(what.to_owned())
}
