//! A call whose method is known and whose arguments fit.

use crate::fault::{Code, RpcFault};
use crate::method::method;
use crate::rpc::{MethodCall, Value};

/// Everything that can be asked.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the table of methods describes each")]
pub enum Call {
    ListMethods,
    MethodHelp(String),
    MethodSignature(String),
    Multicall(Vec<Value>),
    ApiVersion,
    SupervisorVersion,
    Identification,
    State,
    Pid,
    ReadMainLog(Reading),
    ClearMainLog,
    Shutdown,
    Restart,
    Reread,
    AddGroup(String),
    RemoveGroup(String),
    Info(String),
    AllInfo,
    AllConfigInfo,
    Start { name: String, wait: bool },
    StartGroup { name: String, wait: bool },
    StartAll { wait: bool },
    Stop { name: String, wait: bool },
    StopGroup { name: String, wait: bool },
    StopAll { wait: bool },
    Signal { name: String, signal: String },
    SignalGroup { name: String, signal: String },
    SignalAll { signal: String },
    ReadLog { name: String, channel: Channel, reading: Reading },
    TailLog { name: String, channel: Channel, offset: u64, length: u64 },
    ClearLogs(String),
    ClearAllLogs,
    SendStdin { name: String, chars: String },
    RemoteEvent { kind: String, data: String },
}

/// One of a process's two log files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Standard output; with standard error, where that has no file of its own.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// From a byte on, at most so many; `None` = to the end.
    From {
        /// The first byte.
        offset: u64,
        /// How many.
        length: Option<u64>,
    },
    /// The last bytes.
    Last(u64),
}

impl Call {
    /// Looks up the method and checks the arguments.
    pub fn of(call: MethodCall) -> Result<Self, RpcFault> {
        let method = method(&call.method).ok_or_else(|| Code::UnknownMethod.bare())?;
        let wanted = method.params.iter().filter(|param| !param.optional).count();
        if !(wanted..=method.params.len()).contains(&call.params.len()) {
            return Err(Code::IncorrectParameters.bare());
        }
        (method.build)(&mut Args { given: call.params.into_iter() })
    }
}

/// The arguments of a call, taken one by one.
#[derive(Debug)]
pub struct Args {
    given: std::vec::IntoIter<Value>,
}

impl Args {
    fn next(&mut self) -> Result<Value, RpcFault> {
        self.given.next().ok_or_else(|| Code::IncorrectParameters.bare())
    }

    pub(crate) fn text(&mut self) -> Result<String, RpcFault> {
        match self.next()? {
            Value::Text(text) => Ok(text),
            other => Err(wrong("a string", &other)),
        }
    }

    /// A signal comes as a name, as digits, or as a number.
    pub(crate) fn signal(&mut self) -> Result<String, RpcFault> {
        match self.next()? {
            Value::Text(text) => Ok(text),
            Value::Int(number) => Ok(number.to_string()),
            other => Err(wrong("a signal", &other)),
        }
    }

    pub(crate) fn flag_or(&mut self, default: bool) -> Result<bool, RpcFault> {
        match self.given.next() {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(Value::Int(number)) => Ok(number != 0),
            Some(other) => Err(wrong("a boolean", &other)),
        }
    }

    pub(crate) fn array(&mut self) -> Result<Vec<Value>, RpcFault> {
        match self.next()? {
            Value::Array(items) => Ok(items),
            other => Err(wrong("an array", &other)),
        }
    }

    fn number(&mut self) -> Result<i64, RpcFault> {
        match self.next()? {
            Value::Int(number) => Ok(number),
            other => Err(wrong("an integer", &other)),
        }
    }

    /// Offset and length of a reading.
    pub(crate) fn range(&mut self) -> Result<Reading, RpcFault> {
        let (offset, length) = (self.number()?, self.number()?);
        match (u64::try_from(offset), u64::try_from(length)) {
            (Ok(offset), Ok(0)) => Ok(Reading::From { offset, length: None }),
            (Ok(offset), Ok(length)) => Ok(Reading::From { offset, length: Some(length) }),
            (Err(_), Ok(0)) => Ok(Reading::Last(offset.unsigned_abs())),
            _ => Err(Code::BadArguments.bare()),
        }
    }

    pub(crate) fn read_log(&mut self, channel: Channel) -> Result<Call, RpcFault> {
        Ok(Call::ReadLog { name: self.text()?, channel, reading: self.range()? })
    }

    pub(crate) fn tail_log(&mut self, channel: Channel) -> Result<Call, RpcFault> {
        let name = self.text()?;
        let (offset, length) = (self.number()?, self.number()?);
        // Nonsense is answered as supervisord answers it: with nothing.
        let clamp = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Call::TailLog { name, channel, offset: clamp(offset), length: clamp(length) })
    }
}

fn wrong(wanted: &str, found: &Value) -> RpcFault {
    let found = match found {
        Value::Nil => "nil",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an integer",
        Value::Double(_) => "a double",
        Value::Text(_) => "a string",
        Value::Bytes(_) => "base64",
        Value::Date(_) => "a date",
        Value::Array(_) => "an array",
        Value::Struct(_) => "a struct",
    };
    Code::IncorrectParameters.of(format!("{found} where {wanted} belongs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::METHODS;

    fn call(method: &str, params: Vec<Value>) -> Result<Call, RpcFault> {
        Call::of(MethodCall { method: method.into(), params })
    }

    #[test]
    fn what_may_be_left_out_has_its_default() {
        let name = "web".to_owned();
        let start = |wait| Ok(Call::Start { name: name.clone(), wait });
        assert_eq!(call("supervisor.startProcess", vec!["web".into()]), start(true));
        assert_eq!(call("supervisor.startProcess", vec!["web".into(), false.into()]), start(false));
        assert_eq!(call("supervisor.startProcess", vec!["web".into(), 0.into()]), start(false));
    }

    #[test]
    fn wrong_calls_are_faults_by_supervisords_numbers() {
        let number = |result: Result<Call, RpcFault>| result.unwrap_err().code;
        assert_eq!(number(call("supervisor.nosuch", vec![])), 1);
        assert_eq!(number(call("supervisor.getPID", vec![1.into()])), 2);
        assert_eq!(number(call("supervisor.getProcessInfo", vec![])), 2);
        assert_eq!(number(call("supervisor.startProcess", vec![5.into()])), 2);
        assert_eq!(number(call("supervisor.readLog", vec![(-50).into(), 10.into()])), 3);
        assert_eq!(number(call("supervisor.readLog", vec![0.into(), (-1).into()])), 3);
    }

    #[test]
    fn readings_are_as_the_manual_has_them() {
        let read = |offset: i64, length: i64| match call(
            "supervisor.readLog",
            vec![offset.into(), length.into()],
        ) {
            Ok(Call::ReadMainLog(reading)) => reading,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(-1600, 0), Reading::Last(1600));
        assert_eq!(read(0, 0), Reading::From { offset: 0, length: None });
        assert_eq!(read(7, 5), Reading::From { offset: 7, length: Some(5) });
        assert_eq!(read(i64::MIN, 0), Reading::Last(1 << 63));
    }

    #[test]
    fn a_signal_comes_as_text_or_number() {
        let signal = |value: Value| call("supervisor.signalProcess", vec!["web".into(), value]);
        let is = |text: &str| Ok(Call::Signal { name: "web".into(), signal: text.into() });
        assert_eq!(signal("HUP".into()), is("HUP"));
        assert_eq!(signal(0.into()), is("0"));
        assert!(signal(true.into()).is_err());
    }

    /// `system.listMethods` and `system.methodSignature` of supervisor 4.2.5.
    #[test]
    fn the_methods_are_supervisords_with_their_signatures() {
        let recorded = include_str!("../tests/golden/signatures.txt");
        let line = |m: &crate::Method| format!("{} {}\n", m.name, m.signature().join(" "));
        assert_eq!(METHODS.iter().map(line).collect::<Vec<_>>().concat(), recorded);
        assert!(METHODS.iter().all(|method| !method.describe().is_empty()));
    }
}
