//! The methods as data: names, parameters, who may call them, and what `system.methodHelp` says.
//!
//! Why a table: what is listed, what is described, what is checked and what is called can't differ.
//! Source: `system.listMethods` and `system.methodSignature` of supervisor 4.2.5.

use crate::call::{Args, Call, Channel};
use crate::fault::RpcFault;
use control::Role;

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// `supervisor.startProcess`.
    pub name: &'static str,
    /// What the caller must be allowed to do.
    pub needs: Role,
    /// The type of its value.
    pub returns: &'static str,
    /// In order.
    pub params: &'static [Param],
    /// One sentence or two.
    pub help: &'static str,
    /// Makes the call from its arguments.
    pub(crate) build: fn(&mut Args) -> Result<Call, RpcFault>,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The type: `string`, `int`, `boolean`, `array`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// It may be left out.
    pub optional: bool,
}

const fn param(kind: &'static str, name: &'static str) -> Param {
    Param { kind, name, optional: false }
}

const NAME: Param = param("string", "name");
const WAIT: Param = Param { kind: "boolean", name: "wait", optional: true };
const SIGNAL: Param = param("string", "signal");
const OFFSET: Param = param("int", "offset");
const LENGTH: Param = param("int", "length");

type Build = fn(&mut Args) -> Result<Call, RpcFault>;

const fn look(
    name: &'static str,
    returns: &'static str,
    params: &'static [Param],
    build: Build,
    help: &'static str,
) -> Method {
    Method { name, needs: Role::Read, returns, params, help, build }
}

const fn act(
    name: &'static str,
    returns: &'static str,
    params: &'static [Param],
    build: Build,
    help: &'static str,
) -> Method {
    Method { name, needs: Role::Act, returns, params, help, build }
}

/// The method of that name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Method {
    /// The types of the value and of the parameters, as `system.methodSignature` gives them.
    pub fn signature(&self) -> Vec<&'static str> {
        std::iter::once(self.returns).chain(self.params.iter().map(|param| param.kind)).collect()
    }

    /// What `system.methodHelp` says.
    pub fn describe(&self) -> String {
        let params = self.params.iter().map(|Param { kind, name, optional }| {
            let optional = if *optional { " (may be left out)" } else { "" };
            format!("\n@param {kind} {name}{optional}")
        });
        let params: Vec<String> = params.collect();
        format!("{}\n{}\n@return {}", self.help, params.concat(), self.returns)
    }
}

/// All methods, by name.
pub const METHODS: &[Method] = &[
    act(
        "supervisor.addProcessGroup",
        "boolean",
        &[NAME],
        |a| Ok(Call::AddGroup(a.text()?)),
        "Takes the configuration as it is in the files now, and starts the service if it starts by \
         itself.",
    ),
    act(
        "supervisor.clearAllProcessLogs",
        "array",
        &[],
        |_| Ok(Call::ClearAllLogs),
        "Empties the log files of all services. Rotated files are kept.",
    ),
    act(
        "supervisor.clearLog",
        "boolean",
        &[],
        |_| Ok(Call::ClearMainLog),
        "Empties what `readLog` shows. The journal keeps its events.",
    ),
    act(
        "supervisor.clearProcessLog",
        "boolean",
        &[NAME],
        |a| Ok(Call::ClearLogs(a.text()?)),
        "As `clearProcessLogs`.",
    ),
    act(
        "supervisor.clearProcessLogs",
        "boolean",
        &[NAME],
        |a| Ok(Call::ClearLogs(a.text()?)),
        "Empties the log files of a process. Rotated files are kept.",
    ),
    look(
        "supervisor.getAPIVersion",
        "string",
        &[],
        |_| Ok(Call::ApiVersion),
        "The version of this interface.",
    ),
    look(
        "supervisor.getAllConfigInfo",
        "array",
        &[],
        |_| Ok(Call::AllConfigInfo),
        "The configuration in force, one struct for each process, in supervisord's words.",
    ),
    look(
        "supervisor.getAllProcessInfo",
        "array",
        &[],
        |_| Ok(Call::AllInfo),
        "As `getProcessInfo`, of every process.",
    ),
    look(
        "supervisor.getIdentification",
        "string",
        &[],
        |_| Ok(Call::Identification),
        "The `identifier` of the section [supervisord] of the configuration.",
    ),
    look("supervisor.getPID", "int", &[], |_| Ok(Call::Pid), "The process id of the daemon."),
    look(
        "supervisor.getProcessInfo",
        "struct",
        &[NAME],
        |a| Ok(Call::Info(a.text()?)),
        "What is to be seen of a process: `web`, `group:process`.",
    ),
    look(
        "supervisor.getState",
        "struct",
        &[],
        |_| Ok(Call::State),
        "The state of the daemon: 1 RUNNING, -1 SHUTDOWN.",
    ),
    look(
        "supervisor.getSupervisorVersion",
        "string",
        &[],
        |_| Ok(Call::SupervisorVersion),
        "Which supervisor this interface is that of, and which program serves it.",
    ),
    look("supervisor.getVersion", "string", &[], |_| Ok(Call::ApiVersion), "As `getAPIVersion`."),
    look(
        "supervisor.readLog",
        "string",
        &[OFFSET, LENGTH],
        |a| Ok(Call::ReadMainLog(a.range()?)),
        "Reads what happened lately, one line for each event.",
    ),
    look(
        "supervisor.readMainLog",
        "string",
        &[OFFSET, LENGTH],
        |a| Ok(Call::ReadMainLog(a.range()?)),
        "As `readLog`.",
    ),
    look(
        "supervisor.readProcessLog",
        "string",
        &[NAME, OFFSET, LENGTH],
        |a| a.read_log(Channel::Stdout),
        "As `readProcessStdoutLog`.",
    ),
    look(
        "supervisor.readProcessStderrLog",
        "string",
        &[NAME, OFFSET, LENGTH],
        |a| a.read_log(Channel::Stderr),
        "Reads the log file of standard error, where it has one.",
    ),
    look(
        "supervisor.readProcessStdoutLog",
        "string",
        &[NAME, OFFSET, LENGTH],
        |a| a.read_log(Channel::Stdout),
        "Reads a process's log file from a byte on; with a negative offset and length 0, so many \
         bytes from its end.",
    ),
    act(
        "supervisor.reloadConfig",
        "array",
        &[],
        |_| Ok(Call::Reread),
        "What differs between the configuration in the files and the one in force: added, changed \
         and removed services. Nothing is changed by it.",
    ),
    act(
        "supervisor.removeProcessGroup",
        "boolean",
        &[NAME],
        |a| Ok(Call::RemoveGroup(a.text()?)),
        "Takes a stopped service off the list, until it is added again.",
    ),
    act(
        "supervisor.restart",
        "boolean",
        &[],
        |_| Ok(Call::Restart),
        "Starts the daemon again in place, with the configuration as it is in the files now. \
         Services whose configuration is the same go on.",
    ),
    act(
        "supervisor.sendProcessStdin",
        "boolean",
        &[NAME, param("string", "chars")],
        |a| Ok(Call::SendStdin { name: a.text()?, chars: a.text()? }),
        "Not supported: services have no standard input here.",
    ),
    act(
        "supervisor.sendRemoteCommEvent",
        "boolean",
        &[param("string", "type"), param("string", "data")],
        |a| Ok(Call::RemoteEvent { kind: a.text()?, data: a.text()? }),
        "Sends a REMOTE_COMMUNICATION event to the listeners that want it.",
    ),
    act(
        "supervisor.shutdown",
        "boolean",
        &[],
        |_| Ok(Call::Shutdown),
        "Stops all services and ends the daemon.",
    ),
    act(
        "supervisor.signalAllProcesses",
        "array",
        &[SIGNAL],
        |a| Ok(Call::SignalAll { signal: a.signal()? }),
        "Sends a signal to the main process of everything that runs.",
    ),
    act(
        "supervisor.signalProcess",
        "boolean",
        &[NAME, SIGNAL],
        |a| Ok(Call::Signal { name: a.text()?, signal: a.signal()? }),
        "Sends a signal, by name or number, to a main process.",
    ),
    act(
        "supervisor.signalProcessGroup",
        "array",
        &[NAME, SIGNAL],
        |a| Ok(Call::SignalGroup { name: a.text()?, signal: a.signal()? }),
        "Sends a signal to the main processes of a group.",
    ),
    act(
        "supervisor.startAllProcesses",
        "array",
        &[WAIT],
        |a| Ok(Call::StartAll { wait: a.flag_or(true)? }),
        "Starts everything that does not run.",
    ),
    act(
        "supervisor.startProcess",
        "boolean",
        &[NAME, WAIT],
        |a| Ok(Call::Start { name: a.text()?, wait: a.flag_or(true)? }),
        "Starts a process, and what it requires; with `wait`, until it is ready or has failed.",
    ),
    act(
        "supervisor.startProcessGroup",
        "array",
        &[NAME, WAIT],
        |a| Ok(Call::StartGroup { name: a.text()?, wait: a.flag_or(true)? }),
        "Starts what does not run of a group.",
    ),
    act(
        "supervisor.stopAllProcesses",
        "array",
        &[WAIT],
        |a| Ok(Call::StopAll { wait: a.flag_or(true)? }),
        "Stops everything that runs.",
    ),
    act(
        "supervisor.stopProcess",
        "boolean",
        &[NAME, WAIT],
        |a| Ok(Call::Stop { name: a.text()?, wait: a.flag_or(true)? }),
        "Stops a process, and what requires it; with `wait`, until it is down.",
    ),
    act(
        "supervisor.stopProcessGroup",
        "array",
        &[NAME, WAIT],
        |a| Ok(Call::StopGroup { name: a.text()?, wait: a.flag_or(true)? }),
        "Stops what runs of a group.",
    ),
    look(
        "supervisor.tailProcessLog",
        "array",
        &[NAME, OFFSET, LENGTH],
        |a| a.tail_log(Channel::Stdout),
        "As `tailProcessStdoutLog`.",
    ),
    look(
        "supervisor.tailProcessStderrLog",
        "array",
        &[NAME, OFFSET, LENGTH],
        |a| a.tail_log(Channel::Stderr),
        "Follows the log file of standard error, where it has one.",
    ),
    look(
        "supervisor.tailProcessStdoutLog",
        "array",
        &[NAME, OFFSET, LENGTH],
        |a| a.tail_log(Channel::Stdout),
        "The last bytes of a log file: text, the file's length, and whether there was more behind \
         offset + length.",
    ),
    look(
        "system.listMethods",
        "array",
        &[],
        |_| Ok(Call::ListMethods),
        "The names of all methods.",
    ),
    look(
        "system.methodHelp",
        "string",
        &[NAME],
        |a| Ok(Call::MethodHelp(a.text()?)),
        "What a method does.",
    ),
    look(
        "system.methodSignature",
        "array",
        &[NAME],
        |a| Ok(Call::MethodSignature(a.text()?)),
        "The types of a method's value and of its parameters.",
    ),
    look(
        "system.multicall",
        "array",
        &[param("array", "calls")],
        |a| Ok(Call::Multicall(a.array()?)),
        "Makes several calls, each a struct of `methodName` and `params`; answers with the value \
         or the fault of each.",
    ),
];
