//! H15: what is kept of a sick run when things go wrong with the keeping: tools that hang or are
//! missing, a full disk, the death of whoever gathers; and with which tool stacks are taken.
//!
//! A service is sick here as soon as the file `sick` is in the daemon's directory.

use crate::peers::{peer, wheel};
use crate::support::{Daemon, alive, kill, root_or_skip, wait_for};
use control::{EvidenceEntry, EvidenceIndex};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Sick once: by the time its successor is asked, the file is gone.
fn sick_on_demand(command: &str, evidence: &str) -> String {
    format!(
        "[service.web]\ncommand = {command}\n\
         [service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\ndrain = \"0s\"\n\
         evidence = {{ {evidence} }}\n\
         [service.web.detect.check]\nkind = \"command\"\n\
         command = [\"sh\", \"-c\", \"! rm {{dir}}/sick\"]\n\
         interval = \"3s\"\ntimeout = \"3s\"\nfailures = 1\n"
    )
}

const SLEEP: &str = "[\"sleep\", \"1000\"]";

/// After so long without any consequence, a bad answer was none: on a machine that starves, holdfast
/// does not believe what comes too late.
const IGNORED: Duration = Duration::from_secs(5);

/// Makes the service sick, and waits for its successor.
pub(crate) fn replace(daemon: &Daemon) {
    let old = daemon.wait_state("web", "running").pid.unwrap();
    let sicken = || fs::write(daemon.path("sick"), "").unwrap();
    let mut since = Instant::now();
    sicken();
    wait_for("web has a successor", || {
        let now = daemon.instance("web");
        if now.state == "running" && now.pid.is_some_and(|pid| pid != old) {
            return Ok(());
        }
        if now.health.replacing.is_some() || daemon.path("sick").exists() {
            since = Instant::now();
        } else if IGNORED < since.elapsed() {
            sicken();
        }
        Err(format!("{now:?}\n{}", daemon.log()))
    });
}

fn bundles(daemon: &Daemon) -> Vec<EvidenceEntry> {
    let listed = daemon.cli(&["evidence", "list", "web", "--json"]);
    serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"))
}

/// What the newest bundle says of itself.
fn newest(daemon: &Daemon) -> EvidenceIndex {
    let listed = bundles(daemon);
    let newest = listed.first().unwrap_or_else(|| panic!("no bundle\n{}", daemon.log()));
    let shown = daemon.cli(&["evidence", "show", &format!("web/{}", newest.id), "--json"]);
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{shown:?}"))
}

fn file(daemon: &Daemon, index: &EvidenceIndex, name: &str) -> String {
    let bundle = format!("{}/{}", index.instance, index.id);
    let shown = daemon.cli(&["evidence", "show", &bundle, name]);
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

fn why_missing(index: &EvidenceIndex, name: &str) -> String {
    let missing = index.missing.iter().filter(|missing| missing.name == name);
    missing.map(|missing| [missing.why.as_str(), " ", &missing.help, "\n"].concat()).collect()
}

#[test]
fn h15_a_tool_that_hangs_is_killed_with_what_it_started_and_the_rest_is_kept() {
    let hang = "sleep 1001 & echo $! > {dir}/tool; echo frames of {pid}; wait";
    let policy = format!("budget = \"2s\", stacks = [\"sh\", \"-c\", \"{hang}\"]");
    let daemon = Daemon::start(&sick_on_demand(SLEEP, &policy));
    replace(&daemon);
    let index = newest(&daemon);
    assert!(!index.complete);
    let why = why_missing(&index, "stacks-user.txt");
    assert!(why.contains("did not end in time, and was killed"), "{why}");
    // What it had said by then is worth keeping.
    let pid = index.pid.unwrap();
    assert!(file(&daemon, &index, "stacks-user.txt").contains(&format!("frames of {pid}")));
    assert!(file(&daemon, &index, "threads.txt").contains(&pid.to_string()));
    let tool: u32 = fs::read_to_string(daemon.path("tool")).unwrap().trim().parse().unwrap();
    wait_for("nothing of the tool is left", || match alive(tool) {
        true => Err(tool.to_string()),
        false => Ok(()),
    });
}

#[test]
fn h15_a_tool_that_is_missing_is_named_and_costs_nothing() {
    let policy = "stacks = [\"no-such-tool\", \"{pid}\"]";
    let daemon = Daemon::start(&sick_on_demand(SLEEP, policy));
    replace(&daemon);
    let index = newest(&daemon);
    let why = why_missing(&index, "stacks-user.txt");
    assert!(why.contains("`no-such-tool` is not installed"), "{why}");
    assert!(index.files.iter().any(|file| file.name == "threads.txt"));
}

#[test]
fn h15_bundles_are_rotated_and_the_newest_stays() {
    let daemon = Daemon::start(&sick_on_demand(SLEEP, "keep = 2, stacks = \"off\""));
    let mut seen = Vec::new();
    for _ in 0..3 {
        replace(&daemon);
        seen.push(newest(&daemon).id);
    }
    let left: Vec<String> = bundles(&daemon).into_iter().map(|bundle| bundle.id).collect();
    assert_eq!(left, [seen[2].clone(), seen[1].clone()]);
}

#[test]
fn h15_who_gathers_dies_and_the_replacement_goes_on() {
    let hang = "touch {dir}/begun; exec sleep 60 # {pid}";
    let policy = format!("budget = \"1m\", stacks = [\"sh\", \"-c\", \"{hang}\"]");
    let daemon = Daemon::start(&sick_on_demand(SLEEP, &policy));
    let old = daemon.wait_state("web", "running").pid.unwrap();
    fs::write(daemon.path("sick"), "").unwrap();
    wait_for("evidence is being gathered", || match daemon.path("begun").exists() {
        true => Ok(()),
        false => Err(daemon.log()),
    });
    let duties = daemon.snapshot().duties;
    let watch = duties.iter().find(|duty| duty.name == "watch").and_then(|duty| duty.pid);
    kill(watch.unwrap(), "KILL");
    daemon.wait_replaced("web", old);
    let said = daemon.wait_event("web", "service.evidence");
    assert!(said.message.contains("the watch duty has died"), "{}", said.message);
    // The next one finds what there is of it.
    let index = wait_for("the unfinished bundle is listed", || match bundles(&daemon).is_empty() {
        true => Err(daemon.log()),
        false => Ok(newest(&daemon)),
    });
    assert!(!index.complete && index.cause.contains("bad answer"), "{index:?}");
    assert!(file(&daemon, &index, "threads.txt").contains(&old.to_string()));
}

/// Of a start that hangs, as that is believed on a machine that starves, too.
#[test]
fn h18_what_a_stack_tool_started_does_not_outlive_the_duty_that_gathers_evidence() {
    let hang = "sleep 1001 & echo $! >{dir}/begun; wait # {pid}";
    let daemon = Daemon::start(&format!(
        "[service.web]\ncommand = {SLEEP}\nready = {{ file = \"/no/such/file\", timeout = \"100ms\" }}\n\
         start_timeout = \"300ms\"\n[service.web.tolerance]\nmode = \"enforce\"\n\
         evidence = {{ budget = \"1m\", stacks = [\"sh\", \"-c\", \"{hang}\"] }}\n"
    ));
    let started: u32 = wait_for("the tool has started something", || {
        let written = fs::read_to_string(daemon.path("begun")).unwrap_or_default();
        written.trim().parse().map_err(|_| daemon.log())
    });
    let began = sys::proc_fs::stat(started).unwrap().start_ticks;
    let duties = daemon.snapshot().duties;
    let watch = duties.iter().find(|duty| duty.name == "watch").and_then(|duty| duty.pid);
    kill(watch.unwrap(), "KILL");
    wait_for("nothing is left of the tool", || {
        match sys::proc_fs::is_same_process(started, began) {
            true => Err(daemon.log()),
            false => Ok(()),
        }
    });
}

/// A disk of its own for evidence, with so much room.
fn with_small_disk(size: &str) -> Option<(Daemon, PathBuf)> {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    let can = root_or_skip("mount a small disk") && tried.is_ok_and(|it| it.status.success());
    if !can {
        eprintln!("skipped: a mount namespace of one's own is not allowed here");
        return None;
    }
    let mut daemon = Daemon::prepare(&sick_on_demand(SLEEP, "stacks = \"off\""));
    let place = daemon.path("state/evidence");
    fs::create_dir_all(&place).unwrap();
    let mount = format!("mount -t tmpfs -o size={size},mode=0700 tmpfs \"$0\" && exec \"$@\"");
    let shown = place.display().to_string();
    daemon.under = ["unshare", "--mount", "sh", "-c", &mount, &shown].map(str::to_owned).to_vec();
    daemon.run();
    let inside = PathBuf::from(format!("/proc/{}/root{shown}", daemon.pid()));
    Some((daemon, inside))
}

#[test]
fn h15_on_a_full_disk_what_does_not_fit_is_said_and_the_replacement_goes_on() {
    let Some((daemon, inside)) = with_small_disk("88k") else { return };
    replace(&daemon);
    let index = newest(&daemon);
    let full = |missing: &&control::EvidenceMissing| {
        missing.why.contains("No space left") && missing.help.contains("make room")
    };
    let left_out: Vec<_> = index.missing.iter().filter(full).map(|it| it.name.clone()).collect();
    assert!(!index.complete && !left_out.is_empty(), "{:?}", index.missing);
    // What is named as there is there, whole.
    for kept in &index.files {
        assert_eq!(file(&daemon, &index, &kept.name).len() as u64, kept.bytes, "{}", kept.name);
    }
    // The room of the old bundle is not enough: nothing of the new one can be written at all.
    fs::write(inside.join("ballast"), vec![b'x'; 80 * 1024]).unwrap_err();
    replace(&daemon);
    let said = daemon.wait_event_with("web", "service.evidence", "no evidence of web is kept");
    assert!(said.message.contains("No space left"), "{}", said.message);
}

#[test]
fn h15_a_core_file_is_kept_where_it_is_wanted() {
    if peer("gdb", &[]).is_none() {
        return;
    }
    let policy = "budget = \"30s\", core = true, stacks = \"off\", size_max = \"512MiB\"";
    let daemon = Daemon::start(&sick_on_demand(SLEEP, policy));
    replace(&daemon);
    let index = newest(&daemon);
    assert!(index.files.iter().any(|file| file.name == "core"), "{:?}", index.missing);
    let bundle = format!("{}/{}", index.instance, index.id);
    let core = daemon.cli(&["evidence", "show", &bundle, "core"]).stdout;
    assert!(core.starts_with(b"\x7fELF"), "{:?}", core.get(..4));
}

#[test]
fn h15_a_core_file_that_would_be_too_large_is_not_begun_in_vain() {
    if peer("gdb", &[]).is_none() {
        return;
    }
    let policy = "budget = \"30s\", core = true, stacks = \"off\", size_max = \"1MiB\"";
    let command = "[\"/usr/bin/python3\", \"-c\", \"import time; time.sleep(1000)\"]";
    let daemon = Daemon::start(&sick_on_demand(command, policy));
    replace(&daemon);
    let index = newest(&daemon);
    let why = why_missing(&index, "core");
    assert!(why.contains("larger than 512KiB"), "{why}");
    assert!(!index.files.iter().any(|file| file.name == "core"));
}

const PYTHON: &str = "import threading\n\
    lock = threading.Lock()\n\
    lock.acquire()\n\
    def deep_inside_the_application():\n    lock.acquire()\n\
    deep_inside_the_application()\n";

/// `py-spy` is where the program is, as in a virtual environment, and nowhere else.
#[test]
fn h15_stacks_of_python_are_those_of_the_program_and_not_of_the_interpreter() {
    let Some(spy) = wheel("py-spy") else { return };
    let python = spy.with_file_name("python");
    let policy = "budget = \"30s\"";
    let command = format!("[\"{}\", \"{{dir}}/app.py\"]", python.display());
    let mut daemon = Daemon::prepare(&sick_on_demand(&command, policy));
    daemon.write("app.py", PYTHON);
    daemon.run();
    replace(&daemon);
    let stacks = file(&daemon, &newest(&daemon), "stacks-user.txt");
    assert!(
        stacks.contains("py-spy") && stacks.contains("deep_inside_the_application"),
        "{stacks}"
    );
}

/// The same without it: the interpreter's own frames, and what would help.
#[test]
fn h15_without_py_spy_native_stacks_are_taken_and_the_remedy_is_named() {
    let in_path = |name: &str| {
        ["/usr/local/bin", "/usr/bin", "/bin"]
            .iter()
            .any(|place| Path::new(place).join(name).exists())
    };
    if in_path("py-spy") || peer("eu-stack", &[]).is_none() {
        return;
    }
    let command = "[\"/usr/bin/python3\", \"{dir}/app.py\"]";
    let mut daemon = Daemon::prepare(&sick_on_demand(command, "budget = \"30s\""));
    daemon.write("app.py", PYTHON);
    daemon.run();
    replace(&daemon);
    let index = newest(&daemon);
    let why = why_missing(&index, "stacks-user.txt");
    assert!(why.contains("pip install py-spy"), "{why}");
    let stacks = file(&daemon, &index, "stacks-user.txt");
    assert!(stacks.contains("eu-stack") && stacks.contains("PyThread_acquire_lock"), "{stacks}");
}

const JAVA: &str = "public class Hang {\n\
    static void deepInsideTheApplication() throws Exception { Thread.sleep(1000000); }\n\
    public static void main(String[] arguments) throws Exception {\n\
        System.out.println(\"up\");\n        deepInsideTheApplication();\n    }\n}\n";

/// A JVM tells the stacks of its threads itself. It is large, and no peer that the tests install.
#[test]
fn h15_a_jvm_is_asked_for_its_stacks() {
    if !Path::new("/usr/bin/javac").exists() {
        eprintln!("skipped: there is no JDK");
        return;
    }
    let command = "[\"java\", \"-cp\", \"{dir}\", \"Hang\"]";
    let mut daemon = Daemon::prepare(&sick_on_demand(command, "budget = \"30s\""));
    let source = daemon.write("Hang.java", JAVA);
    let compiled = Command::new("javac").arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    daemon.run();
    wait_for("it is up", || match daemon.output("web").contains("up") {
        true => Ok(()),
        false => Err(daemon.log()),
    });
    replace(&daemon);
    let stacks = file(&daemon, &newest(&daemon), "stacks-user.txt");
    assert!(stacks.contains("SIGQUIT") && stacks.contains("deepInsideTheApplication"), "{stacks}");
}
