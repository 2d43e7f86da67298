//! Puts the watcher's questions: each becomes a task whose result is an input.

use super::{Duty, Watched};
use crate::watch::ask::{Command, LineCounter, no_answer};
use crate::watch::looker::Key;
use base::{Answer, InstanceId, RunId};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;
use supervisor::watch::Input;
use supervisor::{CounterSource, DependencyTarget, HealthProbe};

impl Duty {
    /// Asks by whatever way the probe has. A command runs as the service would.
    pub(super) fn probe(
        &self,
        instance: &InstanceId,
        run: Option<RunId>,
        probe: HealthProbe,
        timeout: Duration,
    ) -> impl Future<Output = (Answer, Duration)> + use<> {
        let of_instance = |(key, _): &(&Key, &Watched)| key.0 == *instance;
        let watched = match run {
            Some(run) => self.runs.get(&(instance.clone(), run)),
            None => self.runs.iter().rfind(of_instance).map(|(_, watched)| watched),
        };
        let spec = self.config.services.get(&instance.service);
        let command = match (&probe, spec, watched) {
            (HealthProbe::Command(argv), Some(spec), Some(watched)) => {
                let command = Command {
                    process: Arc::new(spec.process.clone()),
                    instance: instance.clone(),
                    run: RunId(watched.facts.run),
                    argv: argv.clone(),
                    main: watched.facts.main,
                    port: watched.facts.port,
                };
                Some(self.commands.ask(command, timeout))
            }
            _ => None,
        };
        let doors = Arc::clone(&self.doors);
        async move {
            match command {
                Some(running) => running.await,
                None => doors.ask(&probe, timeout).await,
            }
        }
    }

    pub(super) fn count(
        &mut self,
        instance: InstanceId,
        run: RunId,
        source: CounterSource,
        timeout: Duration,
    ) {
        let counter = match &source {
            CounterSource::AccessLog(path) => {
                let watched = self.runs.get(&(instance.clone(), run));
                watched.and_then(|watched| watched.lines.get(path)).cloned()
            }
            CounterSource::HttpJson { .. } | CounterSource::Notify => None,
        };
        let doors = Arc::clone(&self.doors);
        self.asking.spawn(async move {
            let result = match (&source, counter) {
                (CounterSource::HttpJson { url, field }, _) => {
                    doors.count(url, field, timeout).await
                }
                (_, Some(counter)) => count_lines(counter, timeout).await,
                (_, None) => Err("nobody counts it".to_owned()),
            };
            Input::Counted { instance, run, source, result }
        });
    }

    pub(super) fn ask_dependency(
        &mut self,
        instance: InstanceId,
        dependency: String,
        target: DependencyTarget,
        timeout: Duration,
    ) {
        let began = sys::clock::now();
        match target {
            DependencyTarget::Probe(probe) => {
                let asking = self.probe(&instance, None, probe, timeout);
                self.asking.spawn(async move {
                    let (answer, took) = asking.await;
                    Input::Depended { instance, dependency, answer, took }
                });
            }
            DependencyTarget::Mount(path) => {
                let looking = self.places.mount(&path, timeout);
                self.asking.spawn(async move {
                    let answer = looking.await;
                    let took = sys::clock::now().since(began);
                    Input::Depended { instance, dependency, answer, took }
                });
            }
            DependencyTarget::Service(name) => {
                // Left out of what the watcher is told: the root knows it at once.
                let answer = Answer::CannotTell(format!("how {name} stands is known to the root"));
                let took = Duration::ZERO;
                self.asking
                    .spawn(async move { Input::Depended { instance, dependency, answer, took } });
            }
        }
    }
}

async fn count_lines(counter: Arc<Mutex<LineCounter>>, timeout: Duration) -> Result<u64, String> {
    let counting = tokio::task::spawn_blocking(move || match counter.try_lock() {
        Ok(mut counter) => counter.count(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().count(),
        Err(TryLockError::WouldBlock) => Err("an earlier look at it still hangs".to_owned()),
    });
    match tokio::time::timeout(timeout, counting).await {
        Ok(Ok(counted)) => counted,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(no_answer(timeout)),
    }
}
