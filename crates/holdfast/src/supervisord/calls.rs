//! Carries out the calls of supervisord's interface.

use super::actions::{Goal, Whom};
use super::house::{House, Seen, event, group_of, one_of};
use super::logfiles;
use control::{Caller, Request, Severity};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisord::rpc::{MethodCall, Value};
use supervisord::{
    API_VERSION, Call, Channel, Code, METHODS, REMOTE_KIND, Reading, RpcFault, SUPERVISOR_RUNNING,
    SUPERVISOR_VERSION, Wanted, group_result, method, wanted,
};

/// Calls of one `system.multicall`.
const CALLS_MAX: usize = 1_000;

/// Bytes of the type and of the data of a remote event: they become part of an event record.
const REMOTE_BYTES_MAX: usize = 64 * 1024;

/// A log on a sick disk is not waited for longer than this.
const DISK_DEADLINE: Duration = Duration::from_secs(10);

/// Makes one call, of one `connection`.
pub(crate) async fn make(
    house: &Arc<House>,
    caller: &Caller,
    connection: u64,
    call: MethodCall,
) -> Result<Value, RpcFault> {
    if call.method != "system.multicall" {
        return make_one(house, caller, connection, call).await;
    }
    may(caller, "system.multicall")?;
    let Call::Multicall(calls) = Call::of(call)? else { return Err(Code::UnknownMethod.bare()) };
    if CALLS_MAX < calls.len() {
        let why = format!("more than {CALLS_MAX} calls in one");
        return Err(Code::BadArguments.of(why));
    }
    let mut results = Vec::new();
    for call in &calls {
        let result = match inner_call(call) {
            Ok(call) => make_one(house, caller, connection, call).await,
            Err(fault) => Err(fault),
        };
        results.push(result.unwrap_or_else(|fault| fault.to_value()));
    }
    Ok(Value::Array(results))
}

fn inner_call(call: &Value) -> Result<MethodCall, RpcFault> {
    let Some(Value::Text(method)) = call.member("methodName") else {
        return Err(Code::IncorrectParameters.of("No methodName"));
    };
    if method == "system.multicall" {
        return Err(Code::IncorrectParameters.of("Recursive system.multicall forbidden"));
    }
    let params = match call.member("params") {
        None => Vec::new(),
        Some(Value::Array(params)) => params.clone(),
        Some(_) => return Err(Code::IncorrectParameters.of("params is no array")),
    };
    Ok(MethodCall { method: method.clone(), params })
}

/// What a caller may not is refused before anything is looked at.
fn may(caller: &Caller, name: &str) -> Result<(), RpcFault> {
    let method = method(name).ok_or_else(|| Code::UnknownMethod.bare())?;
    if caller.role < method.needs {
        return Err(Code::Failed.of(format!(
            "{} may not do this; be listed in `operators` of [api] in the configuration",
            caller.name
        )));
    }
    Ok(())
}

async fn make_one(
    house: &Arc<House>,
    caller: &Caller,
    connection: u64,
    call: MethodCall,
) -> Result<Value, RpcFault> {
    may(caller, &call.method)?;
    match Call::of(call)? {
        Call::ListMethods => {
            Ok(Value::Array(METHODS.iter().map(|method| method.name.into()).collect()))
        }
        Call::MethodHelp(name) => {
            let method = method(&name).ok_or_else(|| Code::SignatureUnsupported.bare())?;
            Ok(method.describe().into())
        }
        Call::MethodSignature(name) => {
            let method = method(&name).ok_or_else(|| Code::SignatureUnsupported.bare())?;
            Ok(Value::Array(method.signature().into_iter().map(Value::from).collect()))
        }
        Call::Multicall(_) => Err(Code::UnknownMethod.bare()),
        Call::ApiVersion => Ok(API_VERSION.into()),
        Call::SupervisorVersion => {
            Ok(format!("{SUPERVISOR_VERSION}+holdfast.{}", env!("CARGO_PKG_VERSION")).into())
        }
        Call::Identification => Ok(house.face.identifier.as_str().into()),
        Call::State => state(house).await,
        Call::Pid => Ok(Value::Int(house.snapshot().await?.pid.into())),
        Call::ReadMainLog(reading) => Ok(house.main_log().read(reading).into()),
        Call::ClearMainLog => {
            house.main_log().clear();
            Ok(true.into())
        }
        Call::Shutdown => ask(house, caller, Request::Stop { keep_services: false }).await,
        Call::Restart => ask(house, caller, Request::Upgrade { binary: None }).await,
        Call::Reread => house.reread(connection).await,
        Call::AddGroup(name) => house.add_group(caller, connection, &name).await,
        Call::RemoveGroup(name) => house.remove_group(caller, connection, &name).await,
        Call::Info(name) => Ok(house.process(&name).await?.info.to_value()),
        Call::AllInfo => {
            let all = house.processes().await?;
            Ok(Value::Array(all.iter().map(|seen| seen.info.to_value()).collect()))
        }
        Call::AllConfigInfo => house.config_info().await,
        Call::Start { name, wait } => house.bring(caller, Goal::Up, Whom::Name(name), wait).await,
        Call::StartGroup { name, wait } => {
            house.bring(caller, Goal::Up, Whom::Group(name), wait).await
        }
        Call::StartAll { wait } => house.bring(caller, Goal::Up, Whom::All, wait).await,
        Call::Stop { name, wait } => house.bring(caller, Goal::Down, Whom::Name(name), wait).await,
        Call::StopGroup { name, wait } => house.stop_group(caller, connection, name, wait).await,
        Call::StopAll { wait } => house.bring(caller, Goal::Down, Whom::All, wait).await,
        Call::Signal { name, signal } => house.signal(caller, Whom::Name(name), &signal).await,
        Call::SignalGroup { name, signal } => {
            house.signal(caller, Whom::Group(name), &signal).await
        }
        Call::SignalAll { signal } => house.signal(caller, Whom::All, &signal).await,
        Call::ReadLog { name, channel, reading } => read_log(house, &name, channel, reading).await,
        Call::TailLog { name, channel, offset, length } => {
            tail_log(house, &name, channel, offset, length).await
        }
        Call::ClearLogs(name) => clear_logs(house, caller, &name).await,
        Call::ClearAllLogs => clear_all_logs(house, caller).await,
        Call::SendStdin { name, .. } => {
            let seen = house.process(&name).await?;
            let why = "services have no standard input here; let it listen on a socket";
            Err(match seen.view.pid {
                Some(_) => Code::Failed.of(why),
                None => Code::NotRunning.of(name),
            })
        }
        Call::RemoteEvent { kind, data } => remote_event(house, caller, kind, data).await,
    }
}

async fn ask(house: &House, caller: &Caller, request: Request) -> Result<Value, RpcFault> {
    house.ask_for(caller, request).await?;
    Ok(true.into())
}

async fn state(house: &House) -> Result<Value, RpcFault> {
    let (code, name) = match house.snapshot().await?.shutting_down {
        true => (-1, "SHUTDOWN"),
        false => SUPERVISOR_RUNNING,
    };
    Ok(Value::members([("statecode", code.into()), ("statename", name.into())]))
}

async fn remote_event(
    house: &House,
    caller: &Caller,
    kind: String,
    data: String,
) -> Result<Value, RpcFault> {
    if REMOTE_BYTES_MAX < kind.len() + data.len() {
        let why = format!("type and data have more than {REMOTE_BYTES_MAX} bytes");
        return Err(Code::BadArguments.of(why));
    }
    let message = format!("{} sent a remote event", caller.name);
    let mut remote = event("holdfast", REMOTE_KIND, Severity::Info, message);
    let details = [("type", kind), ("data", data), ("by", caller.name.clone())];
    remote.data.extend(details.map(|(name, value)| (name.to_owned(), value.into())));
    house.record(remote).await;
    Ok(true.into())
}

/// The log file that a client asks for.
pub(crate) fn log_file(seen: &Seen, channel: Channel) -> Result<PathBuf, RpcFault> {
    let path = match channel {
        Channel::Stdout => &seen.info.stdout_log,
        Channel::Stderr => &seen.info.stderr_log,
    };
    if path.is_empty() { Err(Code::NoFile.bare()) } else { Ok(path.into()) }
}

async fn read_log(
    house: &House,
    name: &str,
    channel: Channel,
    reading: Reading,
) -> Result<Value, RpcFault> {
    let path = log_file(&house.process(name).await?, channel)?;
    on_disk(move || logfiles::read(&path, reading)).await.map(Value::Text)
}

async fn tail_log(
    house: &House,
    name: &str,
    channel: Channel,
    offset: u64,
    length: u64,
) -> Result<Value, RpcFault> {
    let seen = house.process(name).await?;
    // Without a file there is nothing, and that is no fault to supervisord.
    let (text, end, overflow) = match log_file(&seen, channel) {
        Ok(path) => on_disk(move || logfiles::tail(&path, offset, length)).await?,
        Err(_) => (String::new(), 0, false),
    };
    let end = i64::try_from(end).unwrap_or(i64::MAX);
    Ok(Value::Array(vec![text.into(), end.into(), overflow.into()]))
}

async fn clear_logs(house: &House, caller: &Caller, name: &str) -> Result<Value, RpcFault> {
    let all = house.processes().await?;
    let several = match wanted(name) {
        Wanted::Group(group) => group_of(all, &group)?,
        Wanted::Instance(_) => vec![one_of(all, name)?],
    };
    for seen in several {
        clear_one(house, caller, &seen).await?;
    }
    Ok(true.into())
}

async fn clear_all_logs(house: &House, caller: &Caller) -> Result<Value, RpcFault> {
    let mut lines = Vec::new();
    for seen in house.processes().await? {
        let result = clear_one(house, caller, &seen).await;
        lines.push(group_result(&seen.info.name, &result));
    }
    Ok(Value::Array(lines))
}

async fn clear_one(house: &House, caller: &Caller, seen: &Seen) -> Result<(), RpcFault> {
    let files = [Channel::Stdout, Channel::Stderr].map(|channel| log_file(seen, channel).ok());
    on_disk(move || files.iter().flatten().try_for_each(|path| logfiles::empty(path))).await?;
    let subject = &seen.view.name;
    let message = format!("{} emptied the log of {subject}", caller.name);
    house.record(event(subject, "service.log_cleared", Severity::Info, message)).await;
    Ok(())
}

/// Does what may block.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RpcFault> {
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(DISK_DEADLINE, working).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(Code::Failed.of(error)),
        Ok(Err(_)) | Err(_) => Err(Code::Failed.of("the disk does not answer")),
    }
}
