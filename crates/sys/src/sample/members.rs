//! Which processes belong to a run, as seen by a process that is not their parent.
//!
//! With a control group the kernel keeps the list. Without one: the known processes, the orphans
//! among the adopter's children that carry the run's token (or, with an emptied environment, stand
//! in a known process's session), and all descendants of these.
//! Cost without a group: the children of the adopter once a round, and one line for each of them;
//! an environment is read once in a process's life.

use super::Target;
use crate::proc_fs::{self, Stat};
use crate::tree::TOKEN_VARIABLE;
use std::collections::{BTreeMap, HashMap};

/// The children of the process that adopts orphans.
#[derive(Debug)]
pub(super) struct Orphans {
    adopter: u32,
    children: BTreeMap<u32, Child>,
    by_mark: HashMap<Mark, Vec<u32>>,
}

#[derive(Debug)]
struct Child {
    start_ticks: u64,
    mark: Mark,
}

/// By what a child is known to belong to a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Mark {
    Token(String),
    Session(u32),
}

impl Orphans {
    pub(super) fn new(adopter: u32) -> Self {
        Self { adopter, children: BTreeMap::new(), by_mark: HashMap::new() }
    }

    /// Looks who is there now.
    pub(super) fn look(&mut self) {
        let mut before = std::mem::take(&mut self.children);
        self.by_mark.clear();
        for pid in proc_fs::children(self.adopter) {
            let Ok(stat) = proc_fs::stat(pid) else { continue };
            let known = before.remove(&pid).filter(|was| was.start_ticks == stat.start_ticks);
            let child = known.unwrap_or_else(|| Child::of(&stat));
            self.by_mark.entry(child.mark.clone()).or_default().push(pid);
            self.children.insert(pid, child);
        }
    }

    /// Those of a run.
    pub(super) fn of<'s>(&'s self, target: &'s Target) -> impl Iterator<Item = u32> + 's {
        let marked = |mark: &Mark| self.by_mark.get(mark).into_iter().flatten().copied();
        let by_token = marked(&Mark::Token(target.token.clone()));
        by_token.chain(target.known.iter().flat_map(move |pid| marked(&Mark::Session(*pid))))
    }
}

impl Child {
    fn of(stat: &Stat) -> Self {
        let token = proc_fs::environ_value(stat.pid, TOKEN_VARIABLE);
        let mark = token.map_or(Mark::Session(stat.session), Mark::Token);
        Self { start_ticks: stat.start_ticks, mark }
    }
}

/// The number of a process that has ended was given to one of another run. Asked once for each
/// process: reading an environment needs the memory lock of the process.
pub(super) fn is_of_another(pid: u32, target: &Target) -> bool {
    proc_fs::environ_value(pid, TOKEN_VARIABLE).is_some_and(|token| token != target.token)
}
