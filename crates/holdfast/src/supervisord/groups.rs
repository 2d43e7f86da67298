//! `reread`, `update`, `add` and `remove`: supervisord's way to take a changed configuration.
//!
//! supervisord reads its files without taking them, and is then told group by group. Holdfast takes
//! a configuration as a whole, or not at all. So the first group that is added, or the last that is
//! removed, takes it; and a group that is removed is off the list until it is added again.
//! Invariant: a group whose processes run is on the list.

use super::actions::{Goal, Whom};
use super::house::{House, group_of};
use config::{Config, Difference};
use control::{Caller, Reply, Request};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use supervisord::rpc::Value;
use supervisord::{Code, RpcFault, group_result};

/// Reading the files and the user database takes at most this long.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// What was told to us group by group.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Removed by a client.
    hidden: BTreeSet<String>,
    /// What the last `reread` found and nobody has dealt with yet.
    pending: BTreeSet<String>,
    /// Of these, what was new, and came with another group's `add`.
    came_along: BTreeSet<String>,
    /// Of these, what was changed, and was taken with another group's `add`: the root restarts it.
    changed_along: BTreeSet<String>,
    /// The connection that asked for the `reread`.
    by: Option<u64>,
}

impl Groups {
    /// Whether a group is off the list. One that runs again is on it.
    pub(crate) fn is_hidden(&mut self, group: &str, is_down: bool) -> bool {
        if !is_down {
            self.hidden.remove(group);
        }
        self.hidden.contains(group)
    }

    /// Whether a connection that goes through its update group by group has had this one restarted
    /// already, with another's `add`. What others ask is done as they ask it.
    pub(crate) fn was_taken(&self, connection: u64, group: &str) -> bool {
        self.by == Some(connection) && self.changed_along.contains(group)
    }

    /// Another configuration is in force: what is not in it is not off the list either.
    pub(crate) fn configured(&mut self, config: &Config) {
        self.hidden.retain(|group| config.services.keys().any(|name| name.as_str() == group));
    }
}

impl House {
    /// What would change if the configuration were taken now.
    pub(crate) async fn reread(&self, connection: u64) -> Result<Value, RpcFault> {
        let (_, difference) = self.compare().await?;
        let names = |names: &mut dyn Iterator<Item = String>| {
            Value::Array(names.map(Value::Text).collect())
        };
        let changed = difference.changed.iter().map(|change| change.name.to_string());
        let added = difference.added.iter().map(ToString::to_string);
        let removed = difference.removed.iter().map(ToString::to_string);
        {
            let mut groups = self.groups();
            groups.pending = added.clone().chain(changed.clone()).chain(removed.clone()).collect();
            groups.came_along.clear();
            groups.changed_along.clear();
            groups.by = Some(connection);
        }
        let three = [names(&mut { added }), names(&mut { changed }), names(&mut { removed })];
        Ok(Value::Array(vec![Value::Array(three.to_vec())]))
    }

    /// Takes the configuration, puts the group on the list, and starts it if it starts by itself.
    pub(crate) async fn add_group(
        &self,
        caller: &Caller,
        connection: u64,
        name: &str,
    ) -> Result<Value, RpcFault> {
        if self.groups().was_taken(connection, name) {
            self.groups().changed_along.remove(name);
            return Ok(Value::Bool(true));
        }
        let all = self.processes_to_act_on().await?;
        let up = all.iter().filter(|seen| seen.state().is_up());
        let up: BTreeSet<String> = up.map(|seen| seen.info.name.group.clone()).collect();
        let known = group_of(all, name).is_ok();
        let (was_hidden, came_along) = {
            let mut groups = self.groups();
            groups.pending.remove(name);
            (groups.hidden.contains(name), groups.came_along.remove(name))
        };
        if known && !came_along {
            return Err(Code::AlreadyAdded.of(name));
        }
        if came_along {
            return Ok(Value::Bool(true));
        }
        let (wanted, difference) = self.compare().await?;
        let Some(spec) = wanted.services.iter().find(|(found, _)| found.as_str() == name) else {
            return Err(Code::BadName.of(name));
        };
        let autostart = spec.1.autostart;
        if !difference.is_empty() {
            self.take(caller).await?;
            let new = difference.added.iter().map(ToString::to_string).filter(|new| new != name);
            let changed = difference.changed.iter().filter(|change| change.restart);
            let changed = changed.map(|change| change.name.to_string());
            let mut groups = self.groups();
            groups.came_along.extend(new);
            groups.changed_along.extend(changed.filter(|of| of != name && up.contains(of)));
        }
        self.groups().hidden.remove(name);
        if was_hidden && autostart {
            self.bring(caller, Goal::Up, Whom::Group(name.to_owned()), false).await?;
        }
        Ok(Value::Bool(true))
    }

    /// Takes a stopped group off the list; takes the configuration once nothing else is pending.
    pub(crate) async fn remove_group(
        &self,
        caller: &Caller,
        connection: u64,
        name: &str,
    ) -> Result<Value, RpcFault> {
        if self.groups().was_taken(connection, name) {
            self.groups().pending.remove(name);
            return Ok(Value::Bool(true));
        }
        let group = group_of(self.processes_to_act_on().await?, name)?;
        if group.iter().any(|seen| !seen.state().is_down()) {
            return Err(Code::StillRunning.of(name));
        }
        let is_last = {
            let mut groups = self.groups();
            groups.hidden.insert(name.to_owned());
            groups.pending.remove(name) && groups.pending.is_empty()
        };
        if is_last {
            let (_, difference) = self.compare().await?;
            let is_gone = difference.removed.iter().any(|gone| gone.as_str() == name);
            if is_gone {
                self.take(caller).await?;
            }
        }
        Ok(Value::Bool(true))
    }

    /// Stops a group, unless this is a step of an update that has done with it already.
    pub(crate) async fn stop_group(
        &self,
        caller: &Caller,
        connection: u64,
        name: String,
        wait: bool,
    ) -> Result<Value, RpcFault> {
        if !self.groups().was_taken(connection, &name) {
            return self.bring(caller, Goal::Down, Whom::Group(name), wait).await;
        }
        let group = group_of(self.processes_to_act_on().await?, &name)?;
        let results = group.iter().map(|seen| group_result(&seen.info.name, &Ok(())));
        Ok(Value::Array(results.collect()))
    }

    /// The configuration in the files, and how it differs from the one in force.
    async fn compare(&self) -> Result<(Arc<Config>, Difference), RpcFault> {
        let files = super::configuration::Files::of(&self.paths);
        let files = files.ok_or_else(|| Code::CantReread.of("nobody has said where it is"))?;
        let read = tokio::task::spawn_blocking(move || files.load());
        let Ok(Ok(loaded)) = tokio::time::timeout(READ_DEADLINE, read).await else {
            return Err(Code::CantReread.of("reading the configuration takes too long"));
        };
        let Some(mut wanted) = loaded.config else {
            return Err(Code::CantReread.of(loaded.diagnostics.render(false)));
        };
        let in_force = self.config();
        // These take effect only when holdfast starts; the root goes on with what it has.
        let shutdown_timeout = wanted.daemon.shutdown_timeout;
        wanted.daemon = config::DaemonSettings { shutdown_timeout, ..in_force.daemon.clone() };
        let difference = config::difference(&in_force, &wanted);
        Ok((Arc::new(wanted), difference))
    }

    /// Has the root take the configuration in the files.
    async fn take(&self, caller: &Caller) -> Result<(), RpcFault> {
        match self.ask_for(caller, Request::Reload).await {
            Ok(Reply::Done { .. }) => self.read_in_force().await,
            Ok(_) => Err(Code::Failed.of("holdfast gave an answer to another question")),
            Err(fault) => Err(Code::CantReread.of(fault.text)),
        }
    }
}
