//! The listeners of superlance, unmodified from PyPI, as services of the real daemon.

use crate::peers::{peer, wheel};
use crate::support::{Daemon, free_port, kill, wait_for};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Something that takes a mail as sendmail does, and keeps it.
fn sendmail(daemon: &Daemon) -> String {
    let path = daemon.write("sendmail", "#!/bin/sh\ncat >> \"$0.mails\"\n");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn mails(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.path("sendmail.mails")).unwrap_or_default()
}

fn wait_mail(daemon: &Daemon, words: &[&str]) {
    wait_for(&format!("a mail says {words:?}"), || match mails(daemon) {
        text if words.iter().all(|word| text.contains(word)) => Ok(()),
        text => Err(format!("{text}\n{}\n{}", daemon.output("ear"), daemon.log())),
    });
}

fn listener(program: &Path, arguments: &[&str], events: &str) -> String {
    let program = program.display().to_string();
    let command: Vec<&str> =
        std::iter::once(program.as_str()).chain(arguments.iter().copied()).collect();
    format!(
        "[service.ear]\ncommand = {command:?}\nevent_listener = {{ events = [{events}] }}\n\
         env = {{ PYTHONWARNINGS = \"ignore\" }}\n"
    )
}

fn start(services: impl FnOnce(&str) -> String) -> Daemon {
    let mut daemon = Daemon::prepare("");
    let mailer = sendmail(&daemon);
    daemon.configure(&services(&mailer));
    daemon.run();
    daemon.wait_state("ear", "running");
    daemon
}

#[test]
fn h27_memmon_restarts_what_has_grown_fat() {
    let (Some(memmon), Some(python)) = (wheel("memmon"), peer("python3", &[])) else { return };
    let fat = "hold = bytearray(60000000)\\nimport time\\ntime.sleep(1000)";
    let daemon = start(|mailer| {
        let args = ["-p", "fat=40MB", "-s", mailer, "-m", "ops@example.com"];
        format!(
            "{}[service.fat]\ncommand = [\"{}\", \"-c\", \"{fat}\"]\n\
             [service.thin]\ncommand = [\"sleep\", \"1000\"]\n",
            listener(&memmon, &args, "\"TICK_5\""),
            python.display()
        )
    });
    let fat = daemon.wait_state("fat", "running").pid.unwrap();
    let thin = daemon.wait_state("thin", "running").pid.unwrap();
    wait_mail(&daemon, &["To: ops@example.com", "memmon [fat]: process fat:fat restarted"]);
    daemon.wait_replaced("fat", fat);
    assert_eq!(daemon.instance("thin").pid, Some(thin));
}

#[test]
fn h27_httpok_restarts_what_does_not_answer() {
    let (Some(httpok), Some(python)) = (wheel("httpok"), peer("python3", &[])) else { return };
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let daemon = start(|mailer| {
        let args = ["-p", "web", "-t", "2", "-s", mailer, "-m", "ops@example.com", &url];
        format!(
            "{}[service.web]\ncommand = [\"{}\", \"-m\", \"http.server\", \"{port}\", \
             \"--bind\", \"127.0.0.1\"]\ndirectory = \"{{dir}}/run\"\nstop = [\"TERM 200ms\"]\n",
            listener(&httpok, &args, "\"TICK_5\""),
            python.display()
        )
    });
    let web = daemon.wait_state("web", "running").pid.unwrap();
    kill(web, "STOP");
    daemon.wait_replaced("web", web);
    wait_mail(&daemon, &["To: ops@example.com", "httpok", "web"]);
}

#[test]
fn h27_crashmail_tells_of_a_crash() {
    let Some(crashmail) = wheel("crashmail") else { return };
    let daemon = start(|mailer| {
        let args = ["-a", "-s", mailer, "-m", "ops@example.com"];
        listener(&crashmail, &args, "\"PROCESS_STATE_EXITED\"")
            + "[service.worker]\ncommand = [\"sleep\", \"1000\"]\ninstances = 2\n"
    });
    let pid = daemon.wait_state("worker:1", "running").pid.unwrap();
    kill(pid, "SEGV");
    let words = format!("Process worker_1 in group worker exited unexpectedly (pid {pid})");
    wait_mail(&daemon, &["To: ops@example.com", &words]);
    // A stop that was asked for is none.
    daemon.act(control::ServiceAction::Stop, "worker:0");
    daemon.wait_state("worker:0", "stopped");
    let next = daemon.wait_replaced("worker:1", pid).pid.unwrap();
    kill(next, "SEGV");
    wait_mail(&daemon, &[&format!("(pid {next})")]);
    assert!(!mails(&daemon).contains("worker_0"), "{}", mails(&daemon));
}

/// A mail server that takes everything.
struct MailServer {
    port: u16,
    received: Arc<Mutex<String>>,
}

impl MailServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received: Arc<Mutex<String>> = Arc::default();
        let keep = Arc::clone(&received);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let say = |text: &str| (&stream).write_all(text.as_bytes()).is_ok();
                let (mut line, mut in_data) = (String::new(), false);
                say("220 test\r\n");
                while matches!(reader.read_line(&mut line), Ok(1..)) {
                    keep.lock().unwrap().push_str(&line);
                    let command = line.trim_end().to_owned();
                    line.clear();
                    let said = match command.as_str() {
                        "." if in_data => {
                            in_data = false;
                            say("250 taken\r\n")
                        }
                        _ if in_data => true,
                        "data" | "DATA" => {
                            in_data = true;
                            say("354 go on\r\n")
                        }
                        _ => say("250 fine\r\n"),
                    };
                    if !said {
                        break;
                    }
                }
            }
        });
        Self { port, received }
    }

    fn wait(&self, daemon: &Daemon, words: &[&str]) {
        wait_for(&format!("the mail server has {words:?}"), || {
            let text = self.received.lock().unwrap().clone();
            let all = words.iter().all(|word| text.contains(word));
            if all { Ok(()) } else { Err(format!("{text}\n{}", daemon.output("ear"))) }
        });
    }
}

fn batch(program: &str, server: &MailServer) -> Option<String> {
    let program = wheel(program)?;
    let host = format!("127.0.0.1:{}", server.port);
    let args = [
        "-t",
        "ops@example.com",
        "-f",
        "holdfast@example.com",
        "-H",
        &host,
        "-e",
        "TICK_5",
        "-i",
        "0.05",
    ];
    Some(listener(&program, &args, "\"PROCESS_STATE\", \"TICK_5\""))
}

#[test]
fn h27_crashmailbatch_collects_crashes() {
    let server = MailServer::start();
    let Some(ear) = batch("crashmailbatch", &server) else { return };
    let daemon = start(|_| ear + "[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let web = daemon.wait_state("web", "running").pid.unwrap();
    kill(web, "SEGV");
    let words = format!("Process web:web (pid {web}) died unexpectedly");
    server.wait(&daemon, &["ops@example.com", &words]);
}

#[test]
fn h27_fatalmailbatch_tells_what_was_given_up() {
    let server = MailServer::start();
    let Some(ear) = batch("fatalmailbatch", &server) else { return };
    let daemon = start(|_| {
        ear + "[service.bad]\ncommand = [\"false\"]\nrestart = { budget = 1, delay = \"1ms\" }\n"
    });
    server.wait(&daemon, &["ops@example.com", "Process bad:bad failed to start too many times"]);
}
