//! Control groups: limits, and a list of members that no fork can escape from (D2, H7).
//!
//! Two generations of the kernel's interface exist, and machines that have both. Tracking uses
//! version 2 where it can be written, with or without controllers, else any hierarchy of version 1;
//! each limit uses whichever has its controller. What is missing is said once, with its remedy.
//!
//! Layout: `<mount>/<our own cgroup>/<base name>/<group>`, in each hierarchy that is used.
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.

mod allowance;
mod counters;
mod detect;
mod group;
mod open;

pub use allowance::{Allowances, Allowed};
pub use counters::{Mounts, REPORT_BYTES_MAX};
pub use group::{Entry, Group};
pub use open::OpenGroup;

use detect::{Hierarchy, Mounted};
use group::Place;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The length of the window in which CPU time is counted, in microseconds. The kernel's default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// What can be limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// Hard limits of one group. `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bytes of memory, swap included. Beyond it the kernel kills.
    pub memory: Option<u64>,
    /// Percent of one CPU: 150 is one and a half.
    pub cpu_percent: Option<u32>,
    /// Processes and threads. Beyond it fork fails.
    pub pids: Option<u32>,
}

impl Limits {
    fn of(&self, controller: Controller) -> Option<u64> {
        match controller {
            Controller::Memory => self.memory,
            Controller::Cpu => self.cpu_percent.map(u64::from),
            Controller::Pids => self.pids.map(u64::from),
        }
    }
}

/// Why there is no group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy can be written.
    #[error(
        "no cgroup hierarchy is writable, so `{0}` runs without limits and its processes are found \
         by their parent and environment only (run holdfast as root, or under systemd with \
         `Delegate=yes`)"
    )]
    Unavailable(String),
    /// A group can't have this name.
    #[error("`{0}` is no name for a cgroup (it may not be empty, `.`, `..`, or contain `/`)")]
    Name(String),
    /// A file of the group can't be made or written.
    #[error("cannot set up the cgroup {} ({what})", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// The hierarchies that we may use.
#[derive(Debug)]
pub struct Cgroups {
    /// Where members are tracked; `None` if nowhere.
    tracking: Option<Hierarchy>,
    /// Where each limit is set.
    controllers: Vec<(Controller, Hierarchy)>,
    notices: Vec<String>,
    base_name: String,
    mounted: Vec<Mounted>,
    turning_on: Mutex<()>,
}

impl Cgroups {
    /// Finds out what can be written, by making the directory `base_name` where it can. No controller
    /// of version 2 is turned on before a limit asks for it: a group whose children have
    /// controllers may hold no process itself, which is in the way of whoever starts us the next
    /// time.
    pub fn detect(base_name: &str) -> Self {
        detect::detect(base_name)
    }

    /// True if members of groups are tracked by the kernel.
    pub fn tracking(&self) -> bool {
        self.tracking.is_some()
    }

    /// What is not available on this machine, and what would help.
    pub fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    /// Makes a group, or takes the one that is there, and sets its limits. The notices name each
    /// limit that was asked for and can't be enforced here.
    pub fn create(
        &self,
        group: &str,
        limits: &Limits,
    ) -> Result<(Group, Vec<String>), CgroupError> {
        check_name(group)?;
        let mut places: Vec<Place> = Vec::new();
        let mut notices = Vec::new();
        if let Some(hierarchy) = &self.tracking {
            places.push(make_place(hierarchy, group)?);
        }
        // Without a limit no controller is turned on, and nobody enters a group of version 1.
        let asked = |controller| Some((controller, limits.of(controller)?));
        for (controller, limit) in Controller::ALL.into_iter().filter_map(asked) {
            let here = self.controllers.iter().find(|(have, _)| *have == controller);
            let here = here.filter(|(_, place)| !place.is_v2 || self.turn_on(controller, place));
            let Some((_, hierarchy)) = here else {
                notices.push(no_controller(controller, group));
                continue;
            };
            let place = make_place(hierarchy, group)?;
            set_limit(&place, controller, limit)?;
            places.push(place);
        }
        if places.is_empty() {
            return Err(CgroupError::Unavailable(group.to_owned()));
        }
        Ok((Group::new(places), notices))
    }

    /// Gives a controller of version 2 to the groups below our own, if they don't have it yet.
    fn turn_on(&self, controller: Controller, hierarchy: &Hierarchy) -> bool {
        // Two hands must not both move our processes.
        let _turning = self.turning_on.lock().unwrap_or_else(PoisonError::into_inner);
        detect::turn_on(&self.mounted, controller, &hierarchy.base)
    }

    /// A group that an earlier daemon made, if it is still there.
    pub fn open(&self, group: &str) -> Option<Group> {
        check_name(group).ok()?;
        let limits = self.controllers.iter().map(|(_, hierarchy)| hierarchy);
        let places: Vec<Place> = self
            .tracking
            .iter()
            .chain(limits)
            .map(|hierarchy| hierarchy.place(group))
            .filter(|place| place.path.is_dir())
            .collect();
        (!places.is_empty()).then(|| Group::new(places))
    }

    /// The same, found by a process that is in it: the way to a group that was made from another
    /// place in the hierarchies, as when the daemon was started in another session then.
    pub fn open_of_process(&self, group: &str, pid: u32) -> Option<Group> {
        check_name(group).ok()?;
        let places = detect::places_of_process(&self.mounted, &self.base_name, group, pid);
        (!places.is_empty()).then(|| Group::new(places))
    }

    /// The names of all groups that exist.
    pub fn list(&self) -> Vec<String> {
        let limits = self.controllers.iter().map(|(_, hierarchy)| hierarchy);
        let mut names: Vec<String> = self
            .tracking
            .iter()
            .chain(limits)
            .flat_map(|hierarchy| group::subdirectories(&hierarchy.base))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes our directories where no group is left in them.
    pub fn remove_base_if_empty(&self) {
        let limits = self.controllers.iter().map(|(_, hierarchy)| hierarchy);
        for hierarchy in self.tracking.iter().chain(limits) {
            // Fails, and is meant to, while a group is in it.
            let _ = std::fs::remove_dir(&hierarchy.base);
        }
    }
}

fn check_name(group: &str) -> Result<(), CgroupError> {
    let bad =
        group.is_empty() || group == "." || group == ".." || group.contains(['/', '\n', '\0']);
    if bad { Err(CgroupError::Name(group.to_owned())) } else { Ok(()) }
}

fn make_place(hierarchy: &Hierarchy, group: &str) -> Result<Place, CgroupError> {
    let place = hierarchy.place(group);
    // Also the base: it goes with the last group, and may have to come back.
    std::fs::create_dir_all(&place.path).map_err(|source| CgroupError::Io {
        path: place.path.clone(),
        what: "making the directory".into(),
        source,
    })?;
    Ok(place)
}

fn no_controller(controller: Controller, group: &str) -> String {
    let name = controller.name();
    format!(
        "the {name} limit of `{group}` is not enforced: no writable cgroup hierarchy has the {name} \
         controller (run holdfast as root, or under systemd with `Delegate={name}`)"
    )
}

fn set_limit(place: &Place, controller: Controller, limit: u64) -> Result<(), CgroupError> {
    let number = limit.to_string();
    let quota = limit.saturating_mul(CPU_PERIOD_USEC) / 100;
    let period = CPU_PERIOD_USEC.to_string();
    match (controller, place.is_v2) {
        (Controller::Memory, true) => {
            write(&place.path, "memory.max", &number)?;
            // Swap would let a leak grow on at the whole machine's cost.
            write_if_there(&place.path, "memory.swap.max", "0")
        }
        (Controller::Memory, false) => set_memory_v1(&place.path, &number),
        (Controller::Cpu, true) => write(&place.path, "cpu.max", &format!("{quota} {period}")),
        (Controller::Cpu, false) => {
            write(&place.path, "cpu.cfs_period_us", &period)?;
            write(&place.path, "cpu.cfs_quota_us", &quota.to_string())
        }
        (Controller::Pids, _) => write(&place.path, "pids.max", &number),
    }
}

/// Memory with swap can never be below memory, so the order depends on the direction of the change.
fn set_memory_v1(path: &Path, limit: &str) -> Result<(), CgroupError> {
    let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    if write(path, memory, limit).is_ok() {
        return write_if_there(path, both, limit);
    }
    write_if_there(path, both, limit)?;
    write(path, memory, limit)
}

fn write_if_there(path: &Path, file: &str, text: &str) -> Result<(), CgroupError> {
    if path.join(file).exists() { write(path, file, text) } else { Ok(()) }
}

fn write(path: &Path, file: &str, text: &str) -> Result<(), CgroupError> {
    let path = path.join(file);
    std::fs::write(&path, text).map_err(|source| CgroupError::Io {
        path,
        what: format!("writing `{text}`"),
        source,
    })
}
