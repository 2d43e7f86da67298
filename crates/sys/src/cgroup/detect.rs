//! Which cgroup hierarchies can be written, and where we are in them.
//!
//! Source: proc_pid_mountinfo(5), cgroups(7), the section "Delegation" of cgroup-v2.rst.

use super::group::Place;
use super::{Cgroups, Controller};
use std::fs;
use std::path::{Path, PathBuf};

/// Where our own process goes when its cgroup has to give its controllers to children: version 2
/// allows processes only in the leaves.
const OWN_LEAF: &str = "holdfast.self";

/// Tries to move all of ours out of a cgroup; each may miss those that were started meanwhile.
const MOVES_MAX: usize = 3;

/// Steps from a process up to us.
const ANCESTORS_MAX: usize = 32;

/// One hierarchy, with our directory in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hierarchy {
    pub(super) is_v2: bool,
    /// The directory that holds all groups.
    pub(super) base: PathBuf,
}

impl Hierarchy {
    pub(super) fn place(&self, group: &str) -> Place {
        Place { is_v2: self.is_v2, path: self.base.join(group) }
    }
}

/// A mounted hierarchy, and the directory in it that stands for our own cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mounted {
    is_v2: bool,
    /// Of version 1: what it controls.
    controllers: Vec<String>,
    mount: PathBuf,
    /// The part of the hierarchy that is mounted, as a container may see one only.
    root: String,
    own: PathBuf,
}

impl Mounted {
    /// The directory of a process, by the text of its /proc/<pid>/cgroup.
    fn directory_of(&self, text: &str) -> Option<PathBuf> {
        let path = text.lines().find_map(|line| path_of(line, self.is_v2, &self.controllers))?;
        let inside = path.strip_prefix(self.root.trim_end_matches('/')).unwrap_or("/");
        Some(self.mount.join(inside.trim_start_matches('/')))
    }
}

pub(super) fn detect(base_name: &str) -> Cgroups {
    let mounted = read_mounted();
    let mut found = Cgroups {
        tracking: None,
        controllers: Vec::new(),
        notices: Vec::new(),
        base_name: base_name.to_owned(),
        mounted: Vec::new(),
        turning_on: std::sync::Mutex::new(()),
    };
    if let Some(v2) = mounted.iter().find(|mounted| mounted.is_v2) {
        use_v2(v2, base_name, &mut found);
    }
    for controller in Controller::ALL {
        if !found.controllers.iter().any(|(have, _)| *have == controller) {
            use_v1(&mounted, controller, base_name, &mut found);
        }
    }
    add_notices(&mut found);
    found.mounted = mounted;
    found
}

/// The directories of a group that a process is in, or in a group inside of; the one that tracks
/// comes first.
pub(super) fn places_of_process(
    mounted: &[Mounted],
    base_name: &str,
    group: &str,
    pid: u32,
) -> Vec<Place> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let wanted = Path::new(base_name).join(group);
    let place_in = |mounted: &Mounted| {
        let directory = mounted.directory_of(&text)?;
        let path = directory.ancestors().find(|above| above.ends_with(&wanted))?;
        Some(Place { is_v2: mounted.is_v2, path: path.to_owned() })
    };
    let mut places: Vec<Place> = mounted.iter().filter_map(place_in).collect();
    places.sort_by_key(|place| !place.is_v2);
    places
}

/// What is mounted, without making anything.
pub(super) fn read_mounted() -> Vec<Mounted> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    find_mounted(&mounts, &own)
}

/// The directories that a process is in; that of version 2 comes first.
pub(super) fn all_places_of_process(mounted: &[Mounted], pid: u32) -> Vec<Place> {
    let mut places = places_in(mounted.iter(), pid);
    places.retain(|place| place.path.is_dir());
    places.sort_by_key(|place| !place.is_v2);
    places
}

/// The same in the hierarchies that may limit memory or processes, be the directories there or not.
pub(super) fn limiting_places_of_process(mounted: &[Mounted], pid: u32) -> Vec<Place> {
    let limits = |name: &String| name == "memory" || name == "pids";
    let may_limit = |it: &&Mounted| it.is_v2 || it.controllers.iter().any(limits);
    places_in(mounted.iter().filter(may_limit), pid)
}

fn places_in<'m>(mounted: impl Iterator<Item = &'m Mounted>, pid: u32) -> Vec<Place> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let place_in = |it: &Mounted| Some(Place { is_v2: it.is_v2, path: it.directory_of(&text)? });
    mounted.filter_map(place_in).collect()
}

fn use_v2(v2: &Mounted, base_name: &str, found: &mut Cgroups) {
    let base = v2.own.join(base_name);
    if fs::create_dir_all(&base).is_err() || !is_writable(&base.join("cgroup.procs")) {
        return;
    }
    let hierarchy = Hierarchy { is_v2: true, base: base.clone() };
    found.tracking = Some(hierarchy.clone());
    let offered = fs::read_to_string(v2.own.join("cgroup.controllers")).unwrap_or_default();
    for controller in Controller::ALL {
        if offered.split_ascii_whitespace().any(|offer| offer == controller.name()) {
            found.controllers.push((controller, hierarchy.clone()));
        }
    }
}

/// Gives a controller to the groups in `base`, which lies in our own cgroup of version 2.
pub(super) fn turn_on(mounted: &[Mounted], controller: Controller, base: &Path) -> bool {
    let v2 = mounted.iter().find(|mounted| mounted.is_v2);
    v2.is_some_and(|v2| {
        enable(&v2.own, &v2.mount, controller.name()) && enable(base, &v2.mount, controller.name())
    })
}

/// Gives a controller to the children of a cgroup. If our own processes stand in the way, and nobody
/// else's, they move to a leaf.
fn enable(directory: &Path, mount: &Path, controller: &str) -> bool {
    let file = directory.join("cgroup.subtree_control");
    let is_on = |text: &str| text.split_ascii_whitespace().any(|on| on == controller);
    if fs::read_to_string(&file).is_ok_and(|text| is_on(&text)) {
        return true;
    }
    let turn_on = || fs::write(&file, format!("+{controller}")).is_ok();
    let leaf = directory.join(OWN_LEAF).join("cgroup.procs");
    for _ in 0..MOVES_MAX {
        if turn_on() {
            return true;
        }
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let ours =
            procs.split_ascii_whitespace().map(|pid| pid.parse().ok().filter(|pid| is_ours(*pid)));
        let Some(ours) = ours.collect::<Option<Vec<u32>>>().filter(|all| !all.is_empty()) else {
            return false;
        };
        if directory == mount || fs::create_dir_all(directory.join(OWN_LEAF)).is_err() {
            return false;
        }
        for pid in ours {
            // One that has just ended need not move.
            let _ = fs::write(&leaf, pid.to_string());
        }
    }
    turn_on()
}

/// Us, or somebody that we have started.
fn is_ours(pid: u32) -> bool {
    let own = std::process::id();
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        if pid == own {
            return true;
        }
        let Ok(stat) = crate::proc_fs::stat(pid) else { return false };
        pid = stat.ppid;
    }
    false
}

fn use_v1(mounted: &[Mounted], controller: Controller, base_name: &str, found: &mut Cgroups) {
    let controls = |mounted: &&Mounted| {
        !mounted.is_v2 && mounted.controllers.iter().any(|name| name == controller.name())
    };
    let Some(v1) = mounted.iter().find(controls) else { return };
    let base = v1.own.join(base_name);
    if fs::create_dir_all(&base).is_err() || !is_writable(&base.join("cgroup.procs")) {
        return;
    }
    let hierarchy = Hierarchy { is_v2: false, base };
    if found.tracking.is_none() {
        found.tracking = Some(hierarchy.clone());
    }
    found.controllers.push((controller, hierarchy));
}

fn add_notices(found: &mut Cgroups) {
    if found.tracking.is_none() {
        found.notices.push(
            "no cgroup hierarchy is writable: processes of a service are found by their parent and \
             environment only, and limits are not enforced"
                .into(),
        );
        return;
    }
    let has = |wanted: Controller| found.controllers.iter().any(|(have, _)| *have == wanted);
    let missing: Vec<&str> = Controller::ALL
        .into_iter()
        .filter(|controller| !has(*controller))
        .map(Controller::name)
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        found.notices.push(format!(
            "no writable cgroup hierarchy has the controller for: {missing}; these limits are not \
             enforced"
        ));
    }
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Pairs each cgroup mount with the line of /proc/self/cgroup that belongs to it.
fn find_mounted(mountinfo: &str, own: &str) -> Vec<Mounted> {
    mountinfo.lines().filter_map(|line| mounted_of(line, own)).collect()
}

/// `36 35 0:30 /root /mount/point rw,… shared:1 - cgroup2 source rw,super,options`.
fn mounted_of(line: &str, own: &str) -> Option<Mounted> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let root = front.nth(3)?;
    let mount = PathBuf::from(unescape(front.next()?));
    let mut back = back.split(' ');
    let is_v2 = match back.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options: Vec<String> = back.nth(1)?.split(',').map(str::to_owned).collect();
    let mut mounted = Mounted {
        is_v2,
        controllers: options,
        mount: mount.clone(),
        root: root.to_owned(),
        own: mount,
    };
    let own = mounted.directory_of(own)?;
    // Out of the leaf that an earlier daemon may have put us into.
    let own = if own.ends_with(OWN_LEAF) { own.parent().map(Path::to_owned)? } else { own };
    if own.is_dir() {
        mounted.own = own;
    }
    Some(mounted)
}

/// `4:cpu,cpuacct:/path` of version 1, `0::/path` of version 2.
fn path_of<'a>(line: &'a str, is_v2: bool, options: &[String]) -> Option<&'a str> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let belongs = if is_v2 {
        controllers.is_empty()
    } else {
        controllers.split(',').any(|name| options.iter().any(|option| option == name))
    };
    belongs.then_some(path)
}

/// Mount points are written with octal escapes for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_generations_are_paired_with_our_place_in_them() {
        let mounts = "\
24 1 0:5 / /proc rw - proc proc rw
30 24 0:26 / /nonexistent/unified rw,relatime shared:1 - cgroup2 cgroup2 rw
31 24 0:27 / /nonexistent/cpu\\040x rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 /docker/abc /nonexistent/memory rw - cgroup cgroup rw,memory";
        let own = "5:memory:/docker/abc/app\n4:cpu,cpuacct:/\n1:name=systemd:/\n0::/x.service";
        let found = find_mounted(mounts, own);
        // None of these directories exists, so the mount itself stands for our place.
        let short: Vec<_> =
            found.iter().map(|m| (m.is_v2, m.mount.to_str().unwrap(), m.own == m.mount)).collect();
        let expect = [
            (true, "/nonexistent/unified", true),
            (false, "/nonexistent/cpu x", true),
            (false, "/nonexistent/memory", true),
        ];
        assert_eq!(short, expect);
    }

    #[test]
    fn our_place_below_a_partial_mount_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().to_str().unwrap();
        fs::create_dir(directory.path().join("app")).unwrap();
        let line = format!("32 24 0:28 /docker/abc {mount} rw - cgroup2 cgroup rw");
        let found = find_mounted(&line, "0::/docker/abc/app/holdfast.self");
        assert_eq!(found[0].own, directory.path().join("app"));
    }

    #[test]
    fn no_controller_is_turned_on_before_a_limit_asks_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("x.service");
        let base = own.join("holdfast-test");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("cgroup.procs"), "").unwrap();
        fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let line = format!("32 24 0:28 / {} rw - cgroup2 cgroup rw", directory.path().display());
        let mounted = find_mounted(&line, "0::/x.service");
        let mut found = Cgroups {
            tracking: None,
            controllers: Vec::new(),
            notices: Vec::new(),
            base_name: "holdfast-test".into(),
            mounted: Vec::new(),
            turning_on: std::sync::Mutex::new(()),
        };
        use_v2(&mounted[0], "holdfast-test", &mut found);
        found.mounted = mounted;
        let control = |at: &Path| fs::read_to_string(at.join("cgroup.subtree_control"));
        let free = super::super::Limits::default();
        let (group, notices) = found.create("web.1", &free).unwrap();
        assert_eq!(notices, Vec::<String>::new());
        assert!(control(&own).is_err() && control(&base).is_err());
        assert!(!group.path().join("memory.max").exists());

        let (group, notices) =
            found.create("web.2", &super::super::Limits { memory: Some(1024), ..free }).unwrap();
        assert_eq!(notices, Vec::<String>::new());
        assert_eq!(
            (control(&own).unwrap(), control(&base).unwrap()),
            ("+memory".into(), "+memory".into())
        );
        assert_eq!(fs::read_to_string(group.path().join("memory.max")).unwrap(), "1024");
    }

    #[test]
    fn ours_are_we_and_those_that_we_have_started() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(is_ours(std::process::id()) && is_ours(child.id()));
        assert!(!is_ours(1) && !is_ours(0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
