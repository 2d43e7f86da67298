//! Values to XML, byte for byte as supervisord lays it out.
//!
//! Invariant: what is written is well-formed XML 1.0 whatever the texts hold. A character that XML
//! has no way to say becomes U+FFFD: the output of a service may hold anything.

use super::{MethodCall, Value};
use crate::fault::RpcFault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const HEAD: &str = "<?xml version='1.0'?>\n";

/// A call.
pub fn write_call(call: &MethodCall) -> String {
    let mut xml = format!("{HEAD}<methodCall>\n<methodName>");
    escape(&mut xml, &call.method);
    xml.push_str("</methodName>\n<params>\n");
    for param in &call.params {
        write_param(&mut xml, param);
    }
    xml.push_str("</params>\n</methodCall>\n");
    xml
}

/// A response that carries a value.
pub fn write_response(value: &Value) -> String {
    let mut xml = format!("{HEAD}<methodResponse>\n<params>\n");
    write_param(&mut xml, value);
    xml.push_str("</params>\n</methodResponse>\n");
    xml
}

/// A response that says why there is no value.
pub fn write_fault(fault: &RpcFault) -> String {
    let mut xml = format!("{HEAD}<methodResponse>\n<fault>\n");
    write_value(&mut xml, &fault.to_value());
    xml.push_str("</fault>\n</methodResponse>\n");
    xml
}

fn write_param(xml: &mut String, value: &Value) {
    xml.push_str("<param>\n");
    write_value(xml, value);
    xml.push_str("</param>\n");
}

fn write_value(xml: &mut String, value: &Value) {
    xml.push_str("<value>");
    match value {
        Value::Nil => xml.push_str("<nil/>"),
        Value::Bool(flag) => element(xml, "boolean", if *flag { "1" } else { "0" }),
        Value::Int(number) => element(xml, "int", &number.to_string()),
        Value::Double(number) => element(xml, "double", &format!("{number:?}")),
        Value::Text(text) => element(xml, "string", text),
        Value::Bytes(bytes) => element(xml, "base64", &STANDARD.encode(bytes)),
        Value::Date(date) => element(xml, "dateTime.iso8601", date),
        Value::Array(items) => {
            xml.push_str("<array><data>\n");
            for item in items {
                write_value(xml, item);
            }
            xml.push_str("</data></array>");
        }
        Value::Struct(members) => {
            xml.push_str("<struct>\n");
            for (name, value) in members {
                xml.push_str("<member>\n");
                element(xml, "name", name);
                xml.push('\n');
                write_value(xml, value);
                xml.push_str("</member>\n");
            }
            xml.push_str("</struct>");
        }
    }
    xml.push_str("</value>\n");
}

fn element(xml: &mut String, name: &str, text: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    escape(xml, text);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // A reader turns a bare one into a line end.
            '\r' => xml.push_str("&#13;"),
            c if is_xml_char(c) => xml.push(c),
            _ => xml.push(char::REPLACEMENT_CHARACTER),
        }
    }
}

/// XML 1.0, production 2.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
