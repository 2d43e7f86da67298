//! From a service's spec to a running process. Runs on a hand, because nearly all of it may block.

use super::hands::RunKey;
use super::runs::group_name;
use super::sockets::SocketStore;
use base::InstanceId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use supervisor::{IoPriority, ProcessSpec, Resource, ServiceSpec};
use sys::spawn::{SpawnPlan, Stdin};

/// Where programs are looked for unless the service sets `PATH` itself.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest environment file that is read.
const ENV_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One thing to be executed, with everything it needs.
pub(crate) struct Launch {
    pub(crate) key: RunKey,
    pub(crate) process: Arc<ProcessSpec>,
    /// Program and arguments, templates filled in.
    pub(crate) argv: Vec<String>,
    /// What `{port}` stands for in the rest.
    pub(crate) port: Option<u16>,
    /// Set over everything else: our own protocol variables.
    pub(crate) own_env: Vec<(String, String)>,
    pub(crate) output: Output,
    pub(crate) tracking: Tracking,
    /// Make a socket for sd_notify messages here.
    pub(crate) notify: Option<PathBuf>,
    pub(crate) sockets: Option<SocketStore>,
    /// Descriptors for one of our own duties, numbered from 3.
    pub(crate) duty_fds: Vec<OwnedFd>,
    pub(crate) parent_death_signal: Option<i32>,
}

/// Where output goes.
pub(crate) enum Output {
    /// Into named pipes that the logs duty reads.
    Fifo { out: PathBuf, err: Option<PathBuf> },
    /// An event listener: events come and answers go by named pipes of the run, which the duty
    /// `supervisord` holds the other ends of; what goes to standard error is its output.
    Listener { events: PathBuf, answers: PathBuf, out: PathBuf },
    /// To holdfast's own standard error.
    Inherit,
    /// Nowhere.
    Null,
}

/// How its processes are found again.
pub(crate) enum Tracking {
    /// A tree of its own.
    Tree { cgroups: Option<Arc<sys::cgroup::Cgroups>>, token: String },
    /// By its process group alone: a short command.
    Group,
}

/// A process that runs.
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) tree: Option<sys::tree::Tree>,
    pub(crate) notify: Option<OwnedFd>,
    /// The pipes of its output: a pipe that nobody has open forgets what is in it.
    pub(crate) pipes: Vec<OwnedFd>,
    /// What was wanted and is not available here.
    pub(crate) notices: Vec<String>,
}

/// Why nothing runs.
#[derive(Debug)]
pub(crate) struct LaunchError {
    /// Cause and remedy.
    pub(crate) reason: String,
    /// Trying again does not help.
    pub(crate) permanent: bool,
}

impl LaunchError {
    fn permanent(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), permanent: true }
    }

    fn passing(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), permanent: false }
    }
}

/// Executes it.
pub(crate) fn launch(launch: &Launch) -> Result<Launched, LaunchError> {
    let instance = &launch.key.instance;
    let process = &*launch.process;
    let person = Person::of(process)?;
    let env = environment(launch, &person)?;
    let render = |text: &str| process.render_with(text, instance, launch.port);
    let directory = PathBuf::from(render(&process.directory.to_string_lossy()));
    let path_env = env.iter().rev().find(|(key, _)| key == "PATH");
    let path_env = path_env.map_or(DEFAULT_PATH.into(), |(_, value)| value.to_string_lossy());
    let program = sys::command::resolve(&launch.argv[0], &path_env, &directory)
        .map_err(LaunchError::permanent)?;
    let Opened { stdin, out, err } = open_output(&launch.output)?;
    let passed = match &launch.sockets {
        Some(store) => store.for_instance(process, instance).map_err(LaunchError::passing)?,
        None => Vec::new(),
    };
    let notify = match &launch.notify {
        Some(path) => Some(
            sys::socket::notify_socket(path, person.identity.as_ref().map(|id| (id.uid, id.gid)))
                .map_err(|error| {
                LaunchError::passing(format!("cannot make {}: {error}", path.display()))
            })?,
        ),
        None => None,
    };
    let mut notices = Vec::new();
    let tree = make_tree(launch, &mut notices);
    let names = process.sockets.iter().map(|socket| socket.name.clone()).collect::<Vec<_>>();
    let sockets = passed.iter().map(|fd| fd.as_fd());
    let pass_fds = sockets.chain(launch.duty_fds.iter().map(AsFd::as_fd)).collect();
    let plan = SpawnPlan {
        program,
        argv: launch.argv.iter().map(OsString::from).collect(),
        env,
        directory,
        identity: person.identity,
        umask: process.umask,
        nice: process.nice,
        io_priority: process.io_priority.map(io_priority),
        oom_score_adjust: Some(process.oom_score_adjust),
        rlimits: rlimits(process),
        cgroup: tree.as_ref().and_then(|tree| tree.group.as_ref()).map(sys::cgroup::Group::entry),
        stdin,
        stdout: out.as_fd(),
        stderr: err.as_ref().map_or(out.as_fd(), AsFd::as_fd),
        pass_fds,
        listen: (!passed.is_empty()).then_some(names),
        new_session: true,
        no_new_privileges: process.no_new_privileges,
        parent_death_signal: launch.parent_death_signal,
    };
    let spawned = sys::spawn::spawn(&plan).map_err(|error| {
        if let Some(group) = tree.as_ref().and_then(|tree| tree.group.as_ref()) {
            // Nobody will ask for it: there is no run. One that stays is swept away later.
            let _ = group.remove();
        }
        LaunchError { permanent: error.permanent(), reason: error.to_string() }
    })?;
    let tree = tree.map(|mut tree| {
        tree.known.push(spawned.pid);
        tree
    });
    let pipes = match &launch.output {
        Output::Fifo { .. } => std::iter::once(out).chain(err).collect(),
        Output::Listener { .. } => err.into_iter().collect(),
        Output::Inherit | Output::Null => Vec::new(),
    };
    Ok(Launched { pid: spawned.pid, pidfd: spawned.pidfd, tree, notify, pipes, notices })
}

fn make_tree(launch: &Launch, notices: &mut Vec<String>) -> Option<sys::tree::Tree> {
    let Tracking::Tree { cgroups, token } = &launch.tracking else { return None };
    let wanted = launch.process.limits;
    let limits = sys::cgroup::Limits {
        memory: wanted.memory.map(|size| size.0),
        cpu_percent: wanted.cpu_percent,
        pids: wanted.pids,
    };
    let name = group_name(&launch.key.instance, launch.key.run);
    let group = match cgroups.as_ref().map(|cgroups| cgroups.create(&name, &limits)) {
        None => None,
        Some(Ok((group, said))) => {
            notices.extend(said);
            Some(group)
        }
        Some(Err(error)) => {
            // Only where a limit was asked for does the lack of a group concern anybody.
            if wanted != supervisor::CgroupLimits::default() {
                notices.push(error.to_string());
            }
            None
        }
    };
    Some(sys::tree::Tree { group, token: token.clone(), known: Vec::new() })
}

/// Standard input, output and error; `err` = `None` where it is the same as `out`.
struct Opened {
    stdin: Stdin,
    out: OwnedFd,
    err: Option<OwnedFd>,
}

impl Opened {
    fn without_input(out: OwnedFd, err: Option<OwnedFd>) -> Self {
        Self { stdin: Stdin::Null, out, err }
    }
}

fn open_output(output: &Output) -> Result<Opened, LaunchError> {
    let fifo = |path: &Path| {
        sys::fifo::ensure(path)
            .and_then(|()| sys::fifo::open_for_service(path))
            .inspect(|fd| {
                // More room lets a burst wait for its reader; less is no fault.
                let _ = sys::fifo::enlarge(fd.as_fd());
            })
            .map_err(|error| {
                LaunchError::passing(format!("cannot open the pipe {}: {error}", path.display()))
            })
    };
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(LaunchError::passing);
    match output {
        Output::Fifo { out, err } => {
            Ok(Opened::without_input(fifo(out)?, err.as_deref().map(fifo).transpose()?))
        }
        // It holds both ends of its input itself, so that it never reads the end of it.
        Output::Listener { events, answers, out } => Ok(Opened {
            stdin: Stdin::Fd(fifo(events)?),
            out: fifo(answers)?,
            err: Some(fifo(out)?),
        }),
        Output::Inherit => Ok(Opened::without_input(copy(std::io::stderr().as_fd())?, None)),
        Output::Null => {
            let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
            Ok(Opened::without_input(null.map_err(LaunchError::passing)?.into(), None))
        }
    }
}

/// Whom a service runs as.
struct Person {
    account: sys::users::Account,
    /// `None`: nothing is switched.
    identity: Option<sys::users::Identity>,
}

impl Person {
    fn of(process: &ProcessSpec) -> Result<Self, LaunchError> {
        let account = match &process.user {
            Some(user) => sys::users::account(user).map_err(LaunchError::permanent)?,
            None => sys::users::current(),
        };
        let switches = process.user.is_some()
            || process.group.is_some()
            || process.supplementary_groups.is_some();
        if !switches {
            return Ok(Self { account, identity: None });
        }
        let gid = match &process.group {
            Some(group) => sys::users::group_id(group).map_err(LaunchError::permanent)?,
            None => account.gid,
        };
        let groups = match &process.supplementary_groups {
            None => sys::users::groups_of(&account),
            Some(names) => names
                .iter()
                .map(|name| sys::users::group_id(name))
                .collect::<Result<_, _>>()
                .map_err(LaunchError::permanent)?,
        };
        let identity = sys::users::Identity { uid: account.uid, gid, groups };
        Ok(Self { account, identity: Some(identity) })
    }
}

fn environment(launch: &Launch, person: &Person) -> Result<Vec<(OsString, OsString)>, LaunchError> {
    let (process, instance) = (&*launch.process, &launch.key.instance);
    let render = |text: &str| process.render_with(text, instance, launch.port);
    let account = &person.account;
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert("PATH".into(), DEFAULT_PATH.into());
    env.insert("HOME".into(), account.home.to_string_lossy().into_owned());
    env.insert("USER".into(), account.name.clone());
    env.insert("LOGNAME".into(), account.name.clone());
    env.insert("SHELL".into(), account.shell.to_string_lossy().into_owned());
    if let Ok(lang) = std::env::var("LANG") {
        env.insert("LANG".into(), lang);
    }
    for (path, may_be_missing) in &process.env_files {
        let path = PathBuf::from(render(&path.to_string_lossy()));
        env.extend(read_env_file(&path, *may_be_missing)?);
    }
    for (key, value) in &process.env {
        env.insert(key.clone(), render(value));
    }
    env.extend(launch.own_env.iter().cloned());
    Ok(env.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

fn read_env_file(path: &Path, may_be_missing: bool) -> Result<Vec<(String, String)>, LaunchError> {
    let shown = path.display();
    let text = match sys::regular::read_to_string(path, ENV_FILE_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_be_missing => {
            return Ok(Vec::new());
        }
        Err(error) => {
            return Err(LaunchError::permanent(format!(
                "cannot read the environment file {shown}: {error} (put `-` before the path if it \
                 may be missing)"
            )));
        }
        Ok(text) => text,
    };
    parse_env(&text).map_err(|(line, why)| LaunchError::permanent(format!("{shown}:{line}: {why}")))
}

/// `KEY=value` lines, as systemd.exec(5) `EnvironmentFile=` has them: `#` and `;` begin comments,
/// a value may stand in single or double quotes.
fn parse_env(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut pairs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((key, value)) = line.split_once('=') else {
            return Err((number, format!("`{line}` is not of the form KEY=value")));
        };
        let value = value.trim();
        let unquoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
        pairs.push((key.trim().to_owned(), unquoted.unwrap_or(value).to_owned()));
    }
    Ok(pairs)
}

/// Class and level as ioprio_set(2) numbers them.
fn io_priority(wanted: IoPriority) -> (u8, u8) {
    match wanted {
        IoPriority::Realtime(level) => (1, level),
        IoPriority::BestEffort(level) => (2, level),
        IoPriority::Idle => (3, 0),
    }
}

fn rlimits(process: &ProcessSpec) -> Vec<(u32, u64, u64)> {
    let value = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let pairs = process.rlimits.iter();
    pairs.map(|(which, pair)| (rlimit_number(*which), value(pair.soft), value(pair.hard))).collect()
}

/// The `RLIMIT_` number on Linux (asm-generic/resource.h).
fn rlimit_number(resource: Resource) -> u32 {
    match resource {
        Resource::Cpu => 0,
        Resource::Fsize => 1,
        Resource::Data => 2,
        Resource::Stack => 3,
        Resource::Core => 4,
        Resource::Nproc => 6,
        Resource::Nofile => 7,
        Resource::Memlock => 8,
        Resource::As => 9,
        Resource::Sigpending => 11,
        Resource::Msgqueue => 12,
        Resource::Nice => 13,
        Resource::Rtprio => 14,
        Resource::Rttime => 15,
    }
}

/// Templates filled into a whole command line.
pub(crate) fn render_argv(spec: &ServiceSpec, instance: &InstanceId, slot: u16) -> Vec<String> {
    spec.process.argv.iter().map(|argument| spec.render_at(argument, instance, slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_files_are_read_as_systemd_reads_them() {
        let text = "# comment\n; another\n\nA=1\nexport B=two words\nC=\"quoted \"\nD='x=y'\nE=\n";
        let pairs = parse_env(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expect = [("A", "1"), ("B", "two words"), ("C", "quoted "), ("D", "x=y"), ("E", "")];
        assert_eq!(pairs, expect);
        assert_eq!(parse_env("A=1\nnonsense").unwrap_err().0, 2);
    }
}
