//! XML-RPC as real clients write it, and as nobody should.

use super::*;
use crate::fault::{Code, RpcFault};
use proptest::prelude::*;

/// Dialogues of `supervisorctl` and supervisord 4.2.5, recorded on a Unix socket.
#[test]
fn recorded_calls_read_and_are_written_back_the_same() {
    let start = include_bytes!("../../tests/golden/start-process.call.xml");
    let call = read_call(start).unwrap();
    assert_eq!(call.method, "supervisor.startProcess");
    assert_eq!(call.params, [Value::text("manual")]);
    assert_eq!(write_call(&call).as_bytes(), start);
    let tail = include_bytes!("../../tests/golden/read-log.call.xml");
    let call = read_call(tail).unwrap();
    assert_eq!(call.params, [Value::text("web"), Value::Int(-1600), Value::Int(0)]);
    assert_eq!(write_call(&call).as_bytes(), tail);
}

#[test]
fn recorded_responses_are_what_we_would_have_sent() {
    let info = include_bytes!("../../tests/golden/process-info.response.xml");
    let value = read_response(info).unwrap().unwrap();
    assert_eq!(value.member("statename"), Some(&Value::text("RUNNING")));
    assert_eq!(write_response(&value).as_bytes(), info);
    let reread = include_bytes!("../../tests/golden/reload-config.response.xml");
    let empty = || Value::Array(Vec::new());
    let value = Value::Array(vec![Value::Array(vec![empty(), empty(), empty()])]);
    assert_eq!(read_response(reread), Ok(Ok(value.clone())));
    assert_eq!(write_response(&value).as_bytes(), reread);
    let fault = include_bytes!("../../tests/golden/already-started.response.xml");
    let expect = Code::AlreadyStarted.of("manual");
    assert_eq!(read_response(fault), Ok(Err(expect.clone())));
    assert_eq!(write_fault(&expect).as_bytes(), fault);
}

#[test]
fn what_other_libraries_write_is_read_too() {
    let call = read_call(
        b"\xEF\xBB\xBF <?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- by hand -->
        <methodCall><methodName> a.b </methodName><params>
          <param><value>plain &amp; &#x41; <![CDATA[<raw>]]></value></param>
          <param><value> <i4> 7 </i4> </value></param>
          <param><value><i8>-9000000000</i8></value></param>
          <param><value><boolean>0</boolean></value></param>
          <param><value><double>-1.5e3</double></value></param>
          <param><value><base64> aGk= \n</base64></value></param>
          <param><value><dateTime.iso8601>19980717T14:08:55</dateTime.iso8601></value></param>
          <param><value><ex:nil/></value></param>
          <param><value/></param>
          <param><value><string/></value></param>
          <param><value><array><data/></array></value></param>
          <param><value><struct/></value></param>
        </params></methodCall>",
    )
    .unwrap();
    assert_eq!(call.method, "a.b");
    let expect = [
        Value::text("plain & A <raw>"),
        Value::Int(7),
        Value::Int(-9_000_000_000),
        Value::Bool(false),
        Value::Double(-1500.0),
        Value::Bytes(b"hi".to_vec()),
        Value::Date("19980717T14:08:55".into()),
        Value::Nil,
        Value::text(""),
        Value::text(""),
        Value::Array(Vec::new()),
        Value::Struct(Vec::new()),
    ];
    assert_eq!(call.params, expect);
    let bare = b"<?xml version='1.0'?><methodCall><methodName>x</methodName></methodCall>";
    assert_eq!(read_call(bare).unwrap().params, []);
}

fn refusal(text: &str) -> String {
    read_call(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_no_call_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", "the end of the message where <methodCall>"),
        ("not xml", "text where <methodCall>"),
        ("<methodCall>", "the end of the message where <methodName>"),
        ("<methodCall><methodName>x</methodName><params>", "the end of the message where <param>"),
        ("<methodCall><methodName>x</wrong></methodCall>", "no XML"),
        ("<methodResponse/>", "<methodResponse> where <methodCall>"),
        ("<methodCall><methodName>x</methodName></methodCall><more/>", "<more> where the end"),
        ("<?xml version='1.0' encoding='latin-1'?><methodCall/>", "not UTF-8"),
    ] {
        assert!(refusal(text).contains(reason), "{text}: {}", refusal(text));
    }
    assert_eq!(read_call(b"\xff\xfe"), Err(CallError::Encoding));
    for value in [
        "<int>x</int>",
        "<boolean>2</boolean>",
        "<double>nan</double>",
        "<base64>*</base64>",
        "<what>1</what>",
        "<string>a</string>b",
        "a<string>b</string>",
        "<int>1</int><int>2</int>",
    ] {
        let text = format!(
            "<methodCall><methodName>x</methodName><params><param><value>{value}</value></param>\
             </params></methodCall>"
        );
        assert!(read_call(text.as_bytes()).is_err(), "{value}");
    }
}

#[test]
fn nothing_that_a_stranger_sends_can_grow() {
    let bomb = "<!DOCTYPE b [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>\
                <methodCall><methodName>&b;</methodName></methodCall>";
    assert!(refusal(bomb).contains("document type"));
    let entity = "<methodCall><methodName>&b;</methodName></methodCall>";
    assert!(refusal(entity).contains("an entity of its own"));
    let nested = |levels: usize| {
        let (open, close) = ("<value><array><data>", "</data></array></value>");
        format!(
            "<methodCall><methodName>x</methodName><params><param>{}{}</param></params></methodCall>",
            open.repeat(levels),
            close.repeat(levels)
        )
    };
    assert!(read_call(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert!(refusal(&nested(DEPTH_MAX + 1)).contains("32 levels"));
    assert!(refusal(&nested(50_000)).contains("32 levels"));
    let many = format!(
        "<methodCall><methodName>x</methodName><params><param><value><array><data>{}</data></array>\
         </value></param></params></methodCall>",
        "<value/>".repeat(VALUES_MAX)
    );
    assert!(refusal(&many).contains("65536 values"));
}

#[test]
fn what_xml_cannot_say_is_replaced() {
    let xml = write_response(&Value::text("a\u{0}b\u{1b}[31m\r\n<&>\u{FFFF}"));
    let read = read_response(xml.as_bytes()).unwrap().unwrap();
    assert_eq!(read, Value::text("a\u{FFFD}b\u{FFFD}[31m\r\n<&>\u{FFFD}"));
}

fn any_value() -> impl Strategy<Value = Value> {
    // Any text that XML can say; line ends and blanks too.
    let text = "[\\t\\n\\r -~äß€\u{1F600}]{0,20}";
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::Double),
        text.prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((text, inner), 0..8).prop_map(Value::Struct),
        ]
    })
}

proptest! {
    #[test]
    fn calls_and_responses_read_back(params in prop::collection::vec(any_value(), 0..5)) {
        let call = MethodCall { method: "supervisor.x".into(), params: params.clone() };
        prop_assert_eq!(read_call(write_call(&call).as_bytes()), Ok(call));
        for value in params {
            prop_assert_eq!(read_response(write_response(&value).as_bytes()), Ok(Ok(value)));
        }
    }

    #[test]
    fn faults_read_back(code in any::<i64>(), text in "[ -~]{0,40}") {
        let fault = RpcFault { code, text };
        prop_assert_eq!(read_response(write_fault(&fault).as_bytes()), Ok(Err(fault)));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>) {
        let _ = (read_call(&bytes), read_response(&bytes));
    }

    #[test]
    fn a_damaged_call_is_answered_without_a_panic(
        value in any_value(),
        at in any::<prop::sample::Index>(),
        with in any::<char>(),
        cut in any::<bool>(),
    ) {
        let xml = write_call(&MethodCall { method: "x".into(), params: vec![value] });
        let mut chars: Vec<char> = xml.chars().collect();
        let at = at.index(chars.len());
        if cut { chars.truncate(at) } else { chars[at] = with }
        let damaged: String = chars.into_iter().collect();
        let _ = read_call(damaged.as_bytes());
    }
}
