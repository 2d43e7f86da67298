//! libtdb in a process of its own: the peer that every file has to be shared with.
//!
//! Why a process: its locks belong to the process, so in ours it would not be kept out by us, nor we
//! by it; and a test has to be able to kill it. Why Python (`assets/libtdb.py`): it reaches every
//! function of the library by ctypes, without a C compiler or the library's headers. It is slower
//! than C, which does not matter here; what is measured against libtdb needs a program in C.
//! Invariants: every answer is waited for up to a deadline; the process is killed with its handle.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tdb::Pair;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/libtdb.py");
/// Long enough for a busy machine to start a process; shorter than a whole test may take, so that who
/// waited for whom is told.
const PATIENCE: Duration = Duration::from_secs(50);
/// Long enough for a few ten thousand operations.
const LONG_PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at whether it waits.
const PAUSE: Duration = Duration::from_micros(500);
/// Answers that nobody has asked for yet.
const ANSWERS_MAX: usize = 16;

/// Flags of libtdb, as its header has them.
pub(crate) mod flag {
    pub(crate) const CLEAR_IF_FIRST: u32 = 1;
    pub(crate) const NO_LOCK: u32 = 4;
    pub(crate) const NO_MAP: u32 = 8;
    pub(crate) const CONVERT: u32 = 16;
    pub(crate) const NO_SYNC: u32 = 64;
    pub(crate) const SEQUENCE: u32 = 128;
    pub(crate) const VOLATILE: u32 = 256;
    pub(crate) const INCOMPATIBLE_HASH: u32 = 2048;
    pub(crate) const MUTEXES: u32 = 4096;
}

/// What libtdb did not do: its code (of `open`: errno) and its words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) text: String,
}

/// Codes of libtdb that a test may expect.
pub(crate) mod code {
    pub(crate) const LOCK: i64 = 3;
    pub(crate) const EXISTS: i64 = 5;
    pub(crate) const NO_EXIST: i64 = 8;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Used when it is created; 0 = what libtdb takes by itself.
    pub(crate) hash_size: u32,
    /// See [`flag`].
    pub(crate) flags: u32,
    /// Only to read; otherwise it is created if it is not there.
    pub(crate) read_only: bool,
}

/// What is to be done to a file that others work on at the same time. The keys are `count-N`,
/// `lines-N` and `any-N`; what is done to each is told in the script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hammer<'a> {
    /// Begins the lines that this one appends, so no two may have the same.
    pub(crate) name: &'a str,
    pub(crate) seed: u64,
    pub(crate) operations: u32,
    /// How many keys of each kind.
    pub(crate) keys: u32,
    /// How many of the steps are transactions, 0 to 1.
    pub(crate) transactions: f64,
}

/// What must have come of it: numbers raised, lines appended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hammered {
    pub(crate) counted: BTreeMap<String, u64>,
    pub(crate) lines: BTreeMap<String, Vec<String>>,
    /// Values that were found half written.
    pub(crate) torn: u64,
}

/// A libtdb process.
pub(crate) struct Libtdb {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Libtdb {
    /// Starts one that has no file open yet. `None`, with a word on standard error, where there is no
    /// libtdb.
    pub(crate) fn start() -> Option<Self> {
        let interpreter = "/usr/bin/python3";
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut folders = folders.map(|entry| entry.path()).chain(["/usr/lib".into()]);
        let here = folders.any(|folder| folder.join("libtdb.so.1").exists());
        if !here || !Path::new(interpreter).exists() {
            let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
            assert!(!required, "libtdb is not installed; `cargo xtask test` names the package");
            #[expect(clippy::print_stderr, reason = "whoever runs it has to see what was left out")]
            {
                eprintln!("skipped: libtdb or python3 is not installed (package python3-tdb)");
            }
            return None;
        }
        let mut command = Command::new(interpreter);
        command.args(["-I", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = sync_channel(ANSWERS_MAX);
        // It ends with the child, whose output ends then.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self { child, input, answers })
    }

    /// Starts one that has opened a file.
    pub(crate) fn open(path: &Path, how: Open) -> Option<Self> {
        let mut peer = Self::start()?;
        peer.try_open(path, how).unwrap();
        Some(peer)
    }

    /// Opens a file; only one at a time.
    pub(crate) fn try_open(&mut self, path: &Path, how: Open) -> Result<(), Refused> {
        // O_RDONLY, or O_RDWR and O_CREAT, as the kernel numbers them on all machines we know.
        let open_flags = if how.read_only { 0 } else { 0o102 };
        let arguments =
            json!([path.to_str().unwrap(), how.hash_size, how.flags, open_flags, 0o600]);
        self.ask(&json!({"do": "open", "arguments": arguments})).map(drop)
    }

    /// Says what to do, without waiting for it to be done. What is said next is done after it.
    pub(crate) fn say(&mut self, order: &Value) {
        writeln!(self.input, "{order}").unwrap();
    }

    /// The answer to the oldest order that has none.
    pub(crate) fn hear(&mut self) -> Result<Value, Refused> {
        self.hear_within(PATIENCE)
    }

    fn hear_within(&mut self, patience: Duration) -> Result<Value, Refused> {
        let line = self.answers.recv_timeout(patience).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get("error").and_then(Value::as_i64) {
            Some(code) => Err(Refused { code, text: answer["text"].as_str().unwrap().to_owned() }),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Says what to do, and waits for the answer.
    pub(crate) fn ask(&mut self, order: &Value) -> Result<Value, Refused> {
        self.say(order);
        self.hear()
    }

    /// An order of one word: `close`, `lock_all`, `try_lock_all`, `unlock_all`, `lock_all_shared`,
    /// `unlock_all_shared`, `transaction_start`, `transaction_prepare`, `transaction_commit`,
    /// `transaction_cancel`, `wipe`, `repack`, `free_list_size`, `sequence`, `size`, `check`,
    /// `first_key` (which then stands on a record), `next_key`.
    pub(crate) fn word(&mut self, word: &str) -> Result<Value, Refused> {
        self.ask(&json!({"do": word}))
    }

    /// An order with a key: `delete`, `chain_lock`, `try_chain_lock`, `chain_unlock`.
    pub(crate) fn at(&mut self, word: &str, key: &[u8]) -> Result<(), Refused> {
        self.ask(&json!({"do": word, "key": hex(key)})).map(drop)
    }

    /// Stores a value: `replace`, `insert` or `modify`.
    pub(crate) fn store(&mut self, how: &str, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        let order = json!({"do": "store", "how": how, "key": hex(key), "value": hex(value)});
        self.ask(&order).map(drop)
    }

    pub(crate) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        let order = json!({"do": "append", "key": hex(key), "value": hex(value)});
        self.ask(&order).map(drop)
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        let found = self.ask(&json!({"do": "get", "key": hex(key)}))?;
        Ok(found.as_str().map(unhex))
    }

    /// All records, in the order in which libtdb meets them.
    pub(crate) fn dump(&mut self) -> Result<Vec<Pair>, Refused> {
        let records = self.word("dump")?;
        let side = |record: &Value, side: usize| unhex(record[side].as_str().unwrap());
        let records = records.as_array().unwrap().iter();
        Ok(records.map(|record| (side(record, 0), side(record, 1))).collect())
    }

    /// Whether libtdb finds nothing wrong with the file.
    pub(crate) fn is_sound(&mut self) -> bool {
        self.word("check").unwrap() == true
    }

    /// How many dead records a chain may keep.
    pub(crate) fn set_max_dead(&mut self, count: u32) {
        self.ask(&json!({"do": "max_dead", "count": count})).unwrap();
    }

    /// Begins to work on a file that others work on as well.
    pub(crate) fn begin(&mut self, hammer: Hammer<'_>) {
        let Hammer { name, seed, operations, keys, transactions } = hammer;
        self.say(&json!({
            "do": "hammer", "name": name, "seed": seed, "operations": operations, "keys": keys,
            "transactions": transactions,
        }));
    }

    /// What has come of it, when it is done.
    pub(crate) fn finish(&mut self) -> Hammered {
        let answer = self.hear_within(LONG_PATIENCE).unwrap();
        let of = |field: &str| answer[field].as_object().unwrap().clone();
        let counted = of("counted").into_iter();
        let lines = of("lines").into_iter();
        let text = |line: &Value| line.as_str().unwrap().to_owned();
        Hammered {
            counted: counted.map(|(key, count)| (key, count.as_u64().unwrap())).collect(),
            lines: lines
                .map(|(key, lines)| (key, lines.as_array().unwrap().iter().map(text).collect()))
                .collect(),
            torn: answer["torn"].as_u64().unwrap(),
        }
    }

    /// Kills it; what it held is nobody's when this returns.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Returns when it waits for somebody else, by a lock of the file or by a mutex in it.
    pub(crate) fn wait_until_blocked(&self) {
        let pid = self.child.id();
        let blocked = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            let waits = |line: &str| {
                let mut words = line.split_ascii_whitespace();
                words.any(|word| word == "->") && words.any(|word| word == pid.to_string())
            };
            let channel = std::fs::read_to_string(format!("/proc/{pid}/wchan"));
            locks.lines().any(waits) || channel.is_ok_and(|name| name.starts_with("futex"))
        };
        let deadline = Instant::now() + PATIENCE;
        while !blocked() {
            assert!(Instant::now() < deadline, "it never waited for anybody");
            std::thread::park_timeout(PAUSE);
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Libtdb {
    fn drop(&mut self) {
        self.end();
    }
}

/// A value that shows whether it is whole, as the hammer stores it.
pub(crate) fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut value = format!("{:08x}", crc32(payload)).into_bytes();
    value.extend(payload);
    value
}

/// Whether a value is one of [`sealed`], and all of it.
pub(crate) fn is_whole(value: &[u8]) -> bool {
    value.split_at_checked(8).is_some_and(|(_, payload)| sealed(payload) == value)
}

/// What is wrong with the records of a file that was worked on: numbers that were not raised as often
/// as was said, lines that are lost, twice or torn, values that are not whole.
pub(crate) fn faults(records: &[Pair], all: &[Hammered]) -> Vec<String> {
    let records: BTreeMap<String, &[u8]> =
        records.iter().map(|(key, value)| (text(key), value.as_slice())).collect();
    let mut faults = Vec::new();
    let torn: u64 = all.iter().map(|one| one.torn).sum();
    if torn != 0 {
        faults.push(format!("{torn} values were read torn"));
    }
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lines: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in all {
        for (key, count) in &one.counted {
            *counted.entry(key).or_default() += count;
        }
        for (key, own) in &one.lines {
            lines.entry(key).or_default().extend(own.iter().map(String::as_str));
        }
    }
    for (key, count) in counted {
        let found = records.get(key).map_or(String::new(), |value| text(value));
        if found != count.to_string() {
            faults.push(format!("{key} was raised {count} times and is {found:?}"));
        }
    }
    for (key, expected) in lines {
        let found = records.get(key).map_or(String::new(), |value| text(value));
        let all: Vec<&str> = found.lines().collect();
        let found: BTreeSet<&str> = all.iter().copied().collect();
        for line in expected.symmetric_difference(&found) {
            faults.push(format!("{key}: {line:?} is lost, or was never appended"));
        }
        if found.len() != all.len() {
            faults.push(format!("{key}: {} lines are there twice", all.len() - found.len()));
        }
    }
    for (key, value) in records.iter().filter(|(key, _)| key.starts_with("any-")) {
        if !is_whole(value) {
            faults.push(format!("{key} is not whole"));
        }
    }
    faults
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 0 { sum >> 1 } else { (sum >> 1) ^ 0xEDB8_8320 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn digit(number: u8) -> char {
    char::from_digit(number.into(), 16).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let number = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    pairs.iter().map(|pair| number(pair).unwrap()).collect()
}
