//! The control groups of a daemon that has ended: removed, so that a run leaves nothing behind.
//!
//! Why: a daemon that was killed cannot tidy up, and the kernel keeps empty groups for ever.
//! Invariants: only groups named after the identity in a state directory of this run are touched;
//! a group that still has processes stays, because the kernel refuses to remove it.

use std::fs;
use std::path::Path;

/// Below the mount points, our own groups lie a few levels deep, those of services two more.
const DEPTH_MAX: usize = 8;

/// Removes the groups of the daemon that had this state directory.
pub fn remove(state: &Path) {
    // Contenders without control groups have no such file, and nothing to remove.
    let Ok(identity) = fs::read_to_string(state.join("id")) else { return };
    let name = format!("holdfast-{}", identity.trim());
    find(Path::new("/sys/fs/cgroup"), &name, DEPTH_MAX);
}

fn find(folder: &Path, name: &str, depth: usize) {
    for inner in folders(folder) {
        if inner.ends_with(name) {
            remove_tree(&inner, depth);
        } else if 0 < depth {
            find(&inner, name, depth - 1);
        }
    }
}

fn remove_tree(folder: &Path, depth: usize) {
    if 0 < depth {
        for inner in folders(folder) {
            remove_tree(&inner, depth - 1);
        }
    }
    let _ = fs::remove_dir(folder);
}

fn folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_folder =
        |entry: &fs::DirEntry| entry.file_type().is_ok_and(|file_type| file_type.is_dir());
    entries.flatten().filter(is_folder).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_tree_is_removed() {
        let base = std::env::temp_dir().join(format!("holdfast-groups-{}", std::process::id()));
        for folder in ["cpu/holdfast-1/s", "cpu/holdfast-12/s", "memory/a/b/holdfast-1/s"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        find(&base, "holdfast-1", DEPTH_MAX);
        assert!(!base.join("cpu/holdfast-1").exists());
        assert!(!base.join("memory/a/b/holdfast-1").exists());
        assert!(base.join("cpu/holdfast-12/s").exists() && base.join("memory/a/b").exists());
        fs::remove_dir_all(&base).unwrap();
    }
}
