//! Mail to people, through a real mail server: aiosmtpd, with protection and login.
//!
//! Where its Python environment is not there the tests are skipped, each saying so.

use crate::support::{DEADLINE, Daemon, free_port, kill, wait_for};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Crashes at once, with a last word, a second after it was told to.
const CRASHING: &str = "[service.web]\nshell = true\n\
    command = \"echo Größe überschritten; while [ ! -e {dir}/crash ]; do sleep 0.05; done; rm {dir}/crash; exit 3\"\n\
    restart = { delay = \"100ms\", delay_max = \"100ms\", budget = 10000, within = \"1h\" }\n";

/// Python with aiosmtpd in it, or `None` with a word on standard error.
fn python() -> Option<PathBuf> {
    let found = std::env::var_os("HOLDFAST_PEERS_PYTHON").map(PathBuf::from);
    let found = found.map(|bin| bin.join("python")).filter(|python| python.exists());
    if found.is_none() {
        let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
        assert!(!required, "no Python environment; `cargo xtask test` makes it");
        eprintln!("skipped: HOLDFAST_PEERS_PYTHON does not name an environment with aiosmtpd");
    }
    found
}

/// A running mail server; gone when dropped.
pub(crate) struct Server {
    child: Child,
}

/// Where a mail server listens and what it leaves behind, also while none runs.
pub(crate) struct Post {
    python: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
}

impl Post {
    pub(crate) fn new() -> Option<Self> {
        let (python, directory) = (python()?, tempfile::tempdir().unwrap());
        let post = Self { python, directory, port: free_port() };
        fs::write(post.path("smtp_server.py"), include_str!("smtp_server.py")).unwrap();
        fs::create_dir(post.path("mails")).unwrap();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(post.path("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(post.path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        Some(post)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let mut child = Command::new(&self.python)
            .arg(self.path("smtp_server.py"))
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.path("mails"))
            .arg("--certificate")
            .arg(self.path("cert.pem"))
            .arg("--key")
            .arg(self.path("key.pem"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server { child }
    }

    /// How the server feels from now on.
    fn mood(&self, mood: &str) {
        fs::write(self.path("mood.new"), mood).unwrap();
        fs::rename(self.path("mood.new"), self.path("mails/mood.json")).unwrap();
    }

    /// `[mail]` for this server; `more` are further keys.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "[mail]\nto = [\"ops@example.org\"]\nfrom = \"holdfast@n1.example.org\"\n\
             host = \"localhost\"\nport = {}\n{more}\n",
            self.port
        )
    }

    /// The keys for protection by this server's certificate.
    fn protected(&self, security: &str) -> String {
        let ca = self.path("cert.pem");
        format!("security = \"{security}\"\nca = \"{}\"\n", ca.display())
    }

    /// Every mail that has arrived, oldest first.
    pub(crate) fn mails(&self) -> Vec<Value> {
        let names = fs::read_dir(self.path("mails")).unwrap().flatten().map(|entry| entry.path());
        let mut names: Vec<_> = names
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .filter(|path| path.file_name().is_some_and(|name| name != "mood.json"))
            .collect();
        names.sort_by_key(|path| (fs::metadata(path).unwrap().modified().unwrap(), path.clone()));
        names.iter().map(|path| read_json(path)).collect()
    }

    /// Waits until this many mails have arrived.
    pub(crate) fn wait_mails(&self, daemon: &Daemon, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} mails arrive"), || {
            let mails = self.mails();
            if mails.len() < count {
                return Err(format!("{mails:#?}\n{}", daemon.log()));
            }
            Ok(mails)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail["headers"][name].as_str().unwrap_or_default()
}

pub(crate) fn body(mail: &Value) -> &str {
    mail["body"].as_str().unwrap()
}

/// A running daemon whose service `web` crashes on demand.
fn daemon(section: &str) -> Daemon {
    let daemon = Daemon::start(&format!("{section}{CRASHING}"));
    daemon.wait_state("web", "running");
    daemon
}

/// Makes `web` crash, and waits until it has come back.
fn crash(daemon: &Daemon) {
    let old = daemon.wait_state("web", "running").pid.unwrap();
    fs::write(daemon.path("crash"), "").unwrap();
    daemon.wait_replaced("web", old);
}

fn duty(daemon: &Daemon) -> u32 {
    wait_for("the mail duty runs", || {
        let duties = daemon.snapshot().duties;
        let duty = duties.iter().find(|duty| duty.name == "mail");
        let running = duty.filter(|duty| duty.state == "running").and_then(|duty| duty.pid);
        running.ok_or_else(|| format!("{duties:?}"))
    })
}

/// `kill -9` of the duty; returns when its successor runs.
fn kill_duty(daemon: &Daemon) {
    let old = duty(daemon);
    kill(old, "KILL");
    wait_for("the duty has a successor", || match duty(daemon) {
        pid if pid == old => Err("not yet".into()),
        _ => Ok(()),
    });
}

/// Waits until `status` has the duty's notice, or none, and returns its text.
fn wait_notice(daemon: &Daemon, part: Option<&str>) -> String {
    wait_for(&format!("a notice with {part:?}"), || {
        let notices = daemon.snapshot().notices;
        let notice = notices.iter().find(|notice| notice.code == "mail-delayed");
        match (notice, part) {
            (Some(notice), Some(part)) if notice.message.contains(part) => {
                Ok(notice.message.clone())
            }
            (None, None) => Ok(String::new()),
            _ => Err(format!("{notices:?}\n{}", daemon.log())),
        }
    })
}

fn queue(daemon: &Daemon) -> Value {
    let output = daemon.cli(&["mail", "queue", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn wait_queue(daemon: &Daemon, count: usize) -> Value {
    wait_for(&format!("{count} mails wait"), || {
        let queue = queue(daemon);
        let waiting = queue["waiting"].as_array().unwrap().len();
        if waiting == count { Ok(queue) } else { Err(format!("{queue:#}\n{}", daemon.log())) }
    })
}

/// How often the instances of a service were restarted.
fn restarts(daemon: &Daemon, service: &str) -> u64 {
    let snapshot = daemon.snapshot();
    let of = snapshot.services.iter().filter(|of| of.name == service);
    of.flat_map(|of| &of.instances).map(|instance| instance.restarts).sum()
}

/// How many restarts these mails tell of, each mail once.
fn told(mails: &[Value]) -> u64 {
    let mut once = BTreeMap::new();
    for mail in mails {
        let twice = once.insert(header(mail, "message-id").to_owned(), counted(mail));
        assert!(twice.is_none_or(|twice| twice == counted(mail)), "two mails with one name");
    }
    once.values().sum()
}

fn counted(mail: &Value) -> u64 {
    let subject = header(mail, "subject");
    let digest = subject.split_once("digest of ").and_then(|(_, rest)| rest.split_once(':'));
    match digest {
        Some((number, _)) => number.parse().unwrap(),
        None => {
            let counted = body(mail).split_once("Everything, counted: ");
            let number = counted.and_then(|(_, rest)| rest.split_once(' '));
            number.map_or_else(|| told_alone(body(mail)), |(number, _)| number.parse().unwrap())
        }
    }
}

/// A mail about one kind of event of one subject has no table: its head has the number.
fn told_alone(body: &str) -> u64 {
    let before = body.split_once(" events from ").map(|(before, _)| before);
    let number = before.and_then(|before| before.split_whitespace().last());
    number.map_or(1, |number| number.parse().unwrap())
}

#[test]
fn h9_a_restart_is_mailed_with_its_cause_its_uptime_its_last_words_and_what_was_done() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let daemon = daemon(&post.section("security = \"none\"\ndigest = \"2s\""));
    crash(&daemon);
    let mails = post.wait_mails(&daemon, 1);
    let mail = &mails[0];
    let subject = header(mail, "subject");
    assert!(subject.starts_with("[holdfast ") && subject.contains("web restarts"), "{subject}");
    assert_eq!(mail["from"], "holdfast@n1.example.org");
    assert_eq!(header(mail, "to"), "ops@example.org");
    assert_eq!(header(mail, "auto-submitted"), "auto-generated");
    assert_eq!(header(mail, "importance"), "");
    let text = body(mail);
    for part in [
        "web exited with code 3 after",
        "Uptime",
        "What happened, and what was done:",
        "web is ready",
        "  | Größe überschritten",
        "  holdfast why web",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(mail["raw"].as_str().unwrap().is_ascii());
    wait_queue(&daemon, 0);
    // What the duty has delivered is not sent again by its successor.
    kill_duty(&daemon);
    crash(&daemon);
    let mails = wait_for("the next restart is told", || {
        let mails = post.mails();
        if told(&mails) == 2 { Ok(mails) } else { Err(format!("{mails:#?}")) }
    });
    let names: BTreeSet<_> = mails.iter().map(|mail| header(mail, "message-id")).collect();
    assert_eq!(names.len(), mails.len());
}

#[test]
fn h9_a_wrong_password_is_said_and_the_right_one_is_taken_without_a_restart() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[
        "--security",
        "starttls",
        "--user",
        "hf",
        "--password",
        "right",
        "--mechanism",
        "PLAIN",
    ]);
    let password = post.path("password");
    fs::write(&password, "wrong\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let login = format!("user = \"hf\"\npassword_file = \"{}\"\n", password.display());
    let daemon = daemon(&post.section(&(post.protected("starttls") + &login)));
    crash(&daemon);
    let said = wait_notice(&daemon, Some("can be read by others"));
    assert!(said.contains("chmod 600") && !said.contains("wrong"), "{said}");
    let tried = daemon.cli(&["mail", "test"]);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let tried = daemon.cli(&["mail", "test"]);
    let words = String::from_utf8_lossy(&tried.stderr).into_owned();
    assert!(words.contains("535 5.7.8 wrong name or password"), "{tried:?}");
    wait_notice(&daemon, Some("refuses the login of hf"));
    assert_eq!(post.mails().len(), 0);
    fs::write(&password, "right\n").unwrap();
    let mails = post.wait_mails(&daemon, 1);
    assert_eq!((&mails[0]["tls"], &mails[0]["login"]), (&Value::Bool(true), &Value::Bool(true)));
    wait_notice(&daemon, None);
    daemon.wait_event("duty/mail", "mail.delivered");
    assert!(!daemon.log().contains("wrong\n") && !daemon.log().contains("right"));
    let tried = daemon.cli(&["mail", "test", "--to", "me@example.org"]);
    assert!(tried.status.success(), "{tried:?}");
    let shown = String::from_utf8_lossy(&tried.stdout).into_owned();
    for part in ["connected to localhost:", "protected by TLS 1.3", "logged in as hf", "on its way"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let mails = post.wait_mails(&daemon, 2);
    assert_eq!(mails[1]["to"][0], "me@example.org");
}

#[test]
fn h9_tls_from_the_first_byte_and_the_older_login_work() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[
        "--security",
        "tls",
        "--user",
        "hf",
        "--password",
        "right",
        "--mechanism",
        "LOGIN",
    ]);
    let password = post.path("password");
    fs::write(&password, "right").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let login = format!("user = \"hf\"\npassword_file = \"{}\"\n", password.display());
    let daemon = daemon(&post.section(&(post.protected("tls") + &login)));
    crash(&daemon);
    let mails = post.wait_mails(&daemon, 1);
    assert_eq!((&mails[0]["tls"], &mails[0]["login"]), (&Value::Bool(true), &Value::Bool(true)));
}

#[test]
fn h9_without_protection_or_a_known_certificate_nothing_is_sent() {
    let Some(post) = Post::new() else { return };
    let server = post.serve(&[]);
    let mut daemon = daemon(&post.section(&post.protected("starttls")));
    crash(&daemon);
    wait_notice(&daemon, Some("does not offer STARTTLS"));
    daemon.stop();
    drop(server);
    // Somebody else's certificate.
    let _server = post.serve(&["--security", "tls"]);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(post.path("cert.pem"), other.cert.pem()).unwrap();
    daemon.configure(&format!("{}{CRASHING}", post.section(&post.protected("tls"))));
    daemon.run();
    let said = wait_notice(&daemon, Some("no protected connection"));
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(post.mails().len(), 0);
    assert_eq!(queue(&daemon)["waiting"].as_array().unwrap().len(), 1);
}

#[test]
fn h9_a_mail_server_that_is_away_delays_and_loses_no_mail() {
    let Some(post) = Post::new() else { return };
    let mut daemon = daemon(&post.section("security = \"none\"\ndigest = \"0s\""));
    crash(&daemon);
    let shown = wait_queue(&daemon, 1);
    assert!(shown["waiting"][0]["subject"].as_str().unwrap().contains("web restarts"), "{shown:#}");
    wait_notice(&daemon, Some("cannot connect to the mail server localhost:"));
    daemon.wait_event("duty/mail", "mail.delayed");
    let page = daemon.cli(&["mail", "queue"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("1 mail waiting") && page.contains("cannot connect"), "{page}");
    let status = String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("mail is delayed"), "{status}");
    // All of us die; what waits goes on to wait.
    kill_duty(&daemon);
    daemon.kill_root();
    daemon.run();
    crash(&daemon);
    wait_queue(&daemon, 2);
    let _server = post.serve(&[]);
    let mails = post.wait_mails(&daemon, 2);
    assert_eq!(told(&mails), 2);
    wait_queue(&daemon, 0);
    wait_notice(&daemon, None);
}

#[test]
fn h9_each_recipient_gets_an_answer_of_its_own() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    post.mood(r#"{"later": ["later@x.example"], "refuse": ["never@x.example"]}"#);
    let section = post.section("security = \"none\"").replace(
        "[\"ops@example.org\"]",
        "[\"later@x.example\", \"never@x.example\", \"now@x.example\"]",
    );
    let daemon = daemon(&section);
    crash(&daemon);
    let mails = post.wait_mails(&daemon, 1);
    assert_eq!(mails[0]["to"], serde_json::json!(["now@x.example"]));
    assert!(header(&mails[0], "to").contains("never@x.example"));
    let event = daemon.wait_event("duty/mail", "mail.refused");
    assert!(event.message.contains("never@x.example for good: 550 5.1.1"), "{}", event.message);
    let queue = wait_queue(&daemon, 1);
    assert_eq!(queue["waiting"][0]["to"], serde_json::json!(["later@x.example"]));
    assert!(queue["refused"][0]["refused"]["never@x.example"].is_string(), "{queue:#}");
    post.mood("{}");
    let mails = post.wait_mails(&daemon, 2);
    assert_eq!(mails[1]["to"], serde_json::json!(["later@x.example"]));
    assert_eq!(header(&mails[0], "message-id"), header(&mails[1], "message-id"));
    wait_queue(&daemon, 0);
}

#[test]
fn h26_a_spent_budget_is_a_page_that_does_not_wait() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let section = post.section("security = \"none\"\ndigest = \"1h\"");
    let failing = "[service.bad]\ncommand = [\"sh\", \"-c\", \"exit 7\"]\n\
        restart = { delay = \"2s\", delay_max = \"2s\", budget = 2, within = \"1h\" }\n";
    let daemon = Daemon::start(&format!("{section}{failing}"));
    daemon.wait_state("bad", "failed");
    let mails = post.wait_mails(&daemon, 2);
    let page = mails.iter().find(|mail| header(mail, "x-holdfast") == "page").unwrap();
    assert!(header(page, "subject").contains("PAGE: bad is given up"), "{page:#}");
    assert_eq!(header(page, "x-priority"), "1 (Highest)");
    assert_eq!(header(page, "importance"), "high");
    assert!(body(page).contains("holdfast service start bad"), "{page:#}");
}

#[test]
fn h9_a_storm_is_few_mails_and_every_restart_is_counted() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let section = post.section("security = \"none\"\ndigest = \"4s\"");
    let storm = "[service.storm]\nshell = true\ninstances = 12\n\
        command = \"[ -e {dir}/calm ] && exec sleep 1000; exit 3\"\n\
        restart = { delay = \"50ms\", delay_max = \"100ms\", budget = 10000, within = \"1h\" }\n";
    let daemon = Daemon::start(&format!("{section}{storm}"));
    wait_for("there was a storm", || {
        let restarts = restarts(&daemon, "storm");
        if 400 < restarts { Ok(()) } else { Err(format!("{restarts} restarts")) }
    });
    daemon.write("calm", "");
    for index in 0..12 {
        daemon.wait_state(&format!("storm:{index}"), "running");
    }
    let happened = restarts(&daemon, "storm");
    let mails = wait_for("all of it is told", || {
        let mails = post.mails();
        if told(&mails) == happened { Ok(mails) } else { Err(format!("{} told", told(&mails))) }
    });
    let seconds = DEADLINE.as_secs() as usize;
    assert!(mails.len() <= 2 + seconds / 4, "{} mails", mails.len());
    assert!(mails.iter().any(|mail| header(mail, "x-holdfast") == "digest"));
}

#[test]
fn h9_kill_9_of_the_duty_at_any_moment_loses_no_restart_and_doubles_none_unseen() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let section = post.section("security = \"none\"\ndigest = \"0s\"");
    let flapping = "[service.flap]\nshell = true\n\
        command = \"[ -e {dir}/calm ] && exec sleep 1000; exit 3\"\n\
        restart = { delay = \"20ms\", delay_max = \"50ms\", budget = 10000, within = \"1h\" }\n";
    let daemon = Daemon::start(&format!("{section}{flapping}"));
    for round in 1..=5 {
        // At another moment each time: after so many more restarts.
        let before = restarts(&daemon, "flap");
        wait_for("it flaps", || {
            let restarts = restarts(&daemon, "flap");
            if before + 3 * round <= restarts { Ok(()) } else { Err(restarts.to_string()) }
        });
        kill_duty(&daemon);
    }
    daemon.write("calm", "");
    daemon.wait_state("flap", "running");
    let happened = restarts(&daemon, "flap");
    wait_for("all of it is told", || {
        let mails = post.mails();
        let sum = told(&mails);
        if sum == happened { Ok(()) } else { Err(format!("{sum} of {happened} told")) }
    });
    wait_queue(&daemon, 0);
}

#[test]
fn mail_begins_when_it_is_configured_and_ends_when_it_is_not() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let daemon = daemon("");
    assert!(daemon.snapshot().duties.iter().all(|duty| duty.name != "mail"));
    crash(&daemon);
    let reload = |section: &str| {
        daemon.configure(&format!("{section}{CRASHING}"));
        let done = daemon.cli(&["reload"]);
        assert!(done.status.success(), "{done:?}");
    };
    reload(&post.section("security = \"none\"\ndigest = \"0s\""));
    let pid = duty(&daemon);
    crash(&daemon);
    assert_eq!(told(&post.wait_mails(&daemon, 1)), 1, "what happened before is not told");
    reload("");
    wait_for("the duty ends", || match crate::support::alive(pid) {
        false => Ok(()),
        true => Err(daemon.log()),
    });
    crash(&daemon);
    reload(&post.section("security = \"none\"\ndigest = \"0s\""));
    duty(&daemon);
    crash(&daemon);
    assert_eq!(told(&post.wait_mails(&daemon, 2)), 2, "nor what happened in between");
    let refused = Daemon::prepare("").cli(&["mail", "test"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no mail is configured"));
}

#[test]
fn h9_more_than_may_wait_becomes_one_mail_and_nothing_is_lost() {
    let Some(post) = Post::new() else { return };
    let daemon = daemon(&post.section("security = \"none\"\ndigest = \"0s\"\nqueue_max = 2"));
    for waiting in [1, 2, 2] {
        crash(&daemon);
        let before = restarts(&daemon, "web");
        wait_for("it is queued", || {
            let queue = queue(&daemon);
            let mails = queue["waiting"].as_array().unwrap();
            let events: u64 = mails.iter().map(|mail| mail["events"].as_u64().unwrap()).sum();
            let all = (mails.len(), events) == (waiting, before);
            if all { Ok(()) } else { Err(format!("{queue:#}\n{}", daemon.log())) }
        });
    }
    daemon.wait_event("duty/mail", "mail.merged");
    let _server = post.serve(&[]);
    let mails = post.wait_mails(&daemon, 2);
    assert_eq!(told(&mails), 3);
    assert!(mails.iter().any(|mail| body(mail).contains("This tells of 2 mails")), "{mails:#?}");
    wait_queue(&daemon, 0);
}

#[test]
fn h9_an_upgrade_hands_the_queue_over() {
    let Some(post) = Post::new() else { return };
    let daemon = daemon(&post.section("security = \"none\"\ndigest = \"0s\""));
    crash(&daemon);
    wait_queue(&daemon, 1);
    let old = duty(&daemon);
    let done = daemon.cli(&["upgrade"]);
    assert!(done.status.success(), "{done:?}");
    wait_for("the new one's duty runs", || match duty(&daemon) {
        pid if pid == old => Err("not yet".into()),
        _ => Ok(()),
    });
    crash(&daemon);
    let _server = post.serve(&[]);
    assert_eq!(told(&post.wait_mails(&daemon, 2)), 2);
    wait_queue(&daemon, 0);
}

#[test]
fn h9_a_replacement_is_mailed_too() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let daemon = daemon(&post.section("security = \"none\"\ndigest = \"0s\""));
    let done = daemon.cli(&["service", "replace", "web"]);
    assert!(done.status.success(), "{done:?}");
    let mails = post.wait_mails(&daemon, 1);
    assert!(header(&mails[0], "subject").contains("web was replaced"), "{mails:#?}");
}
