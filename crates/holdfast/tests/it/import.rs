//! `holdfast import supervisord`: by the real command, and what comes of it beside the real
//! supervisord.

use crate::peers::peer;
use crate::support::{Daemon, root_or_skip, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn import(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["import", "supervisord"]).args(arguments).env("NO_COLOR", "1");
    command.env("OUT", "holdfast").env("PATH", PATH).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SMALL: &str = "[inet_http_server]\nport=127.0.0.1:9001\nusername=admin\npassword=geheim\n\
    [program:web]\ncommand=/bin/sleep 60\nautorestart=maybe\n";

#[test]
fn the_configuration_goes_to_standard_output_and_the_rest_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("supervisord.conf");
    fs::write(&file, SMALL).unwrap();
    let told = import(&[file.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(0));
    let (toml, notes) = (text(&told.stdout), text(&told.stderr));
    assert!(toml.contains("[service.web]") && !toml.contains("maybe"), "{toml}");
    assert!(notes.contains("supervisord.conf:7: lost: [program:web] autorestart"));
    assert!(notes.contains("! 1 service; 1 lost, 0 changed"), "{notes}");
    // The hash of the password, as `printf %s geheim | sha256sum` prints it.
    let hash = "addb0f5e7826c857d7376d1bd9bc33c0c544790a2eac96144a8af22b1298c940";
    assert!(toml.contains(hash) && !toml.contains("geheim"), "{toml}");

    let json = import(&[file.to_str().unwrap(), "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["toml"], &json["services"]), (&toml.into(), &1.into()));
    assert_eq!(json["notes"][0]["kind"], "hint");
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (folder.path().join("s.conf"), folder.path().join("holdfast.toml"));
    fs::write(&file, SMALL).unwrap();
    let arguments = [file.to_str().unwrap(), "-o", to.to_str().unwrap()];
    let first = import(&arguments);
    assert_eq!((first.status.code(), first.stdout.len()), (Some(0), 0));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&to).unwrap();
    let again = import(&arguments);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("remove this one"), "{}", text(&again.stderr));
    assert_eq!(fs::read_to_string(&to).unwrap(), written);
    let mut check = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    assert!(check.args(["config", "check"]).arg(&to).output().unwrap().status.success());

    let missing = import(&[folder.path().join("missing.conf").to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("cannot read"), "{}", text(&missing.stderr));
}

/// Writes down what it was given, under a name made of its arguments.
const PROBE: &str = "import json, os, socket, stat, sys, time\n\
    place = os.environ['PLACE']\n\
    mask = os.umask(0); os.umask(mask)\n\
    names = ['SHARED', 'HERE', 'N', 'QUOTED', 'PATH']\n\
    seen = {'argv': sys.argv[1:], 'cwd': os.getcwd(), 'umask': mask, 'uid': os.getuid(),\n\
            \x20       'gid': os.getgid(), 'groups': sorted(os.getgroups()),\n\
            \x20       'env': {name: os.environ.get(name) for name in names}}\n\
    if 'fcgi' in sys.argv:\n\
    \x20   listener = socket.socket(fileno=os.dup(0))\n\
    \x20   path = listener.getsockname()\n\
    \x20   found = os.stat(path)\n\
    \x20   seen['socket'] = [path, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid,\n\
    \x20                     listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]\n\
    name = os.path.join(place, '_'.join(sys.argv[1:]).replace('/', '-'))\n\
    open(name + '.new', 'w').write(json.dumps(seen))\n\
    os.rename(name + '.new', name + '.json')\n\
    time.sleep(600)\n";

fn supervisord_conf(dir: &Path) -> String {
    let text = "\
[supervisord]
logfile={dir}/supervisord.log ; own log
pidfile={dir}/supervisord.pid
childlogdir={dir}
nodaemon=true
environment=SHARED=\"one, two\",HERE=\"%(here)s\",PLACE=\"{dir}/%(ENV_OUT)s\"

[program:words]
command=/usr/bin/python3 {dir}/probe.py words \"a b\" 'c\"d' \\$x %(program_name)s 100%% {brace} {{two}} {name}
directory={dir}/work
environment=N=\"7\",QUOTED=\"it's; {N}\",PATH=\"{dir}/bin:%(ENV_PATH)s\"
umask=077
priority=5

[program:padded]
command=/usr/bin/python3 {dir}/probe.py padded %(process_num)02d of %(numprocs)d
process_name=%(program_name)s_%(process_num)02d
numprocs=3
numprocs_start=9
environment=N=\"n%(process_num)s\"

[program:ports]
command=/usr/bin/python3 {dir}/probe.py ports --port=80%(process_num)02d {x}
process_name=%(program_name)s_%(process_num)02d
numprocs=2
numprocs_start=1
user=nobody
directory=/tmp

[fcgi-program:fcgi]
command=/usr/bin/python3 {dir}/probe.py fcgi \"one two\"
socket=unix://{dir}/%(program_name)s.sock
socket_mode=0660
user=nobody

[include]
files=conf.d/*.conf
";
    text.replace("{dir}", &dir.display().to_string())
}

/// What the probes wrote, by name.
fn written(place: &Path) -> BTreeMap<String, Value> {
    let files = fs::read_dir(place).unwrap().flatten();
    let json = files.filter(|file| file.path().extension().is_some_and(|e| e == "json"));
    json.map(|file| {
        let text = fs::read_to_string(file.path()).unwrap();
        (file.file_name().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap())
    })
    .collect()
}

/// What programs of root have where nobody says anything.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The real supervisord, stopped with everything that it runs.
struct Theirs(Child);

impl Theirs {
    fn start(supervisord: &Path, conf: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        // In the foreground it hands on the mask that it has, and its environment.
        command.args(["-c", "umask 022; exec \"$0\" -n -c \"$1\""]).arg(supervisord).arg(conf);
        command.env("OUT", "supervisord").env("PATH", PATH).current_dir("/");
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        crate::support::kill(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

const PROBES: usize = 8;

fn wait_written(place: &Path) -> BTreeMap<String, Value> {
    wait_for("every probe has written", || {
        let found = written(place);
        if found.len() == PROBES { Ok(found) } else { Err(format!("{:?}", found.keys())) }
    })
}

#[test]
fn what_is_imported_runs_as_it_ran_under_the_real_supervisord() {
    let Some(supervisord) = peer("supervisord", &[]) else { return };
    if !root_or_skip("run programs as other users") {
        return;
    }
    let mut daemon = Daemon::prepare("");
    daemon.open_to_all();
    let dir = daemon.dir().to_path_buf();
    for place in ["supervisord", "holdfast"] {
        fs::create_dir(dir.join(place)).unwrap();
        fs::set_permissions(dir.join(place), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::create_dir(dir.join("work")).unwrap();
    fs::create_dir(dir.join("conf.d")).unwrap();
    daemon.write("probe.py", PROBE);
    daemon.write(
        "conf.d/more.conf",
        "[program:more]\ncommand=/usr/bin/python3 %(here)s/../probe.py more\n",
    );
    let conf = daemon.write("supervisord.conf", &supervisord_conf(&dir));

    let theirs = Theirs::start(&supervisord, &conf);
    let expect = wait_written(&dir.join("supervisord"));
    drop(theirs);

    let imported = import(&[conf.to_str().unwrap()]);
    let (toml, notes) = (text(&imported.stdout), text(&imported.stderr));
    assert!(notes.contains(" 0 lost,"), "{notes}");
    // `{dir}` is filled in by the test's own daemon; nothing of the kind is in the result.
    daemon.configure(&toml);
    daemon.run();
    assert_eq!(wait_written(&dir.join("holdfast")), expect, "{toml}");
    assert_eq!(daemon.stop(), 0);
}
