//! Evidence bundles on disk: where they are, what they are called, which of them go.
//!
//! ```text
//! <state>/evidence/web:1/20261124T102233.123Z-17/index.json, threads.txt, …
//!                        .20261124T102301.456Z-18.partial/      one that is being written
//! ```
//! Invariants: no name from outside leads out of the directory: an instance, an id and a file name
//! each have a form that is checked before a path is made of them; the newest bundle of a service
//! is never removed to make room.

use base::{InstanceId, ServiceName};
use control::{EvidenceEntry, EvidenceIndex};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The index of a bundle.
pub const INDEX: &str = "index.json";

/// Longest index that is read. It has some hundred bytes for each detector and file.
const INDEX_BYTES_MAX: u64 = 1024 * 1024;

/// Bundles of one instance that are looked at. The policy keeps fewer.
const BUNDLES_MAX: usize = 10_000;

/// Instances that are looked at.
const INSTANCES_MAX: usize = 100_000;

/// Longest name of a file in a bundle.
const FILE_NAME_MAX: usize = 64;

/// How the name of a directory ends that is still being written; it begins with a dot.
const PARTIAL: &str = ".partial";

/// The bundles of one state directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    root: PathBuf,
}

/// The name of one bundle. Only made of what has the right form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BundleId {
    instance: String,
    id: String,
}

impl BundleId {
    /// From `web:1` and `20261124T102233.123Z-17`; `None` if either is of another form.
    pub fn new(instance: &str, id: &str) -> Option<Self> {
        let instance: InstanceId = instance.parse().ok()?;
        is_id(id).then(|| Self { instance: instance.to_string(), id: id.to_owned() })
    }

    /// From `web:1/20261124T102233.123Z-17`.
    pub fn parse(text: &str) -> Option<Self> {
        let (instance, id) = text.split_once('/')?;
        Self::new(instance, id)
    }

    /// Whose.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Time and run.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Display for BundleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.instance, self.id)
    }
}

/// `YYYYMMDDTHHMMSS.mmmZ-RUN`.
fn is_id(id: &str) -> bool {
    let Some((time, run)) = id.split_once('-') else { return false };
    let form = b"00000000T000000.000Z";
    let fits =
        |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    time.len() == form.len()
        && time.bytes().zip(form).all(fits)
        && (1..=20).contains(&run.len())
        && run.bytes().all(|byte| byte.is_ascii_digit())
}

/// Small letters, digits, `-` and one or more dots that do not begin it.
fn is_file_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    name.len() <= FILE_NAME_MAX
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && !name.contains("..")
}

impl Evidence {
    /// Of a state directory.
    pub fn of_state(state: &Path) -> Self {
        Self { root: state.join("evidence") }
    }

    /// The directory of a bundle.
    pub fn directory(&self, bundle: &BundleId) -> PathBuf {
        self.root.join(&bundle.instance).join(&bundle.id)
    }

    /// The directory in which it is written before it is whole.
    pub fn partial(&self, bundle: &BundleId) -> PathBuf {
        self.root.join(&bundle.instance).join(format!(".{}{PARTIAL}", bundle.id))
    }

    /// All bundles, or those of one service or instance; the newest first.
    pub fn list(&self, of: Option<&str>) -> io::Result<Vec<EvidenceEntry>> {
        let mut entries = Vec::new();
        for bundle in self.bundles(of)? {
            // One that was removed meanwhile is not listed.
            let Ok(index) = self.index(&bundle) else { continue };
            let (bytes, files) = self.size(&bundle);
            entries.push(EvidenceEntry {
                instance: bundle.instance.clone(),
                id: bundle.id.clone(),
                run: index.run,
                begun_us: index.begun_us,
                cause: index.cause,
                complete: index.complete,
                bytes,
                files,
            });
        }
        entries.sort_by(|a, b| (&b.id, &b.instance).cmp(&(&a.id, &a.instance)));
        Ok(entries)
    }

    /// What a bundle says of itself.
    pub fn index(&self, bundle: &BundleId) -> io::Result<EvidenceIndex> {
        let mut text = Vec::new();
        let file = open(&self.directory(bundle).join(INDEX))?;
        file.take(INDEX_BYTES_MAX).read_to_end(&mut text)?;
        serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// A file of a bundle, and its size. `NotFound`, too, if the name is no name of such a file.
    pub fn open(&self, bundle: &BundleId, name: &str) -> io::Result<(File, u64)> {
        if !is_file_name(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = open(&self.directory(bundle).join(name))?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// The names and sizes of the files of a bundle, by name.
    pub fn files(&self, bundle: &BundleId) -> io::Result<Vec<(String, u64)>> {
        let entries = fs::read_dir(self.directory(bundle))?.flatten();
        let mut files: Vec<(String, u64)> = entries
            .filter_map(|entry| {
                let name =
                    entry.file_name().into_string().ok().filter(|name| is_file_name(name))?;
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((name, found.len()))
            })
            .collect();
        files.sort();
        Ok(files)
    }

    /// Removes the oldest bundles of a service until at most `keep` of them with at most `bytes_max`
    /// are left; the newest stays in any case. Gives those that went.
    pub fn prune(
        &self,
        service: &ServiceName,
        keep: usize,
        bytes_max: u64,
    ) -> io::Result<Vec<BundleId>> {
        let mut bundles = self.bundles(Some(service.as_str()))?;
        bundles.sort_by(|a, b| b.id.cmp(&a.id));
        let (mut left, mut room) = (keep.max(1), bytes_max);
        let mut removed = Vec::new();
        for (number, bundle) in bundles.into_iter().enumerate() {
            let bytes = self.space(&bundle);
            let stays = number == 0 || (0 < left && bytes <= room && removed.is_empty());
            if stays {
                left -= 1;
                room = room.saturating_sub(bytes);
            } else {
                fs::remove_dir_all(self.directory(&bundle))?;
                removed.push(bundle);
            }
        }
        Ok(removed)
    }

    /// Gives bundles that nobody finished their final names: what is in them is all there is.
    pub fn finish_partial(&self) -> io::Result<Vec<BundleId>> {
        let mut finished = Vec::new();
        for instance in self.instances(None)? {
            for entry in fs::read_dir(self.root.join(&instance))?.flatten().take(BUNDLES_MAX) {
                let name = entry.file_name();
                let id =
                    name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(PARTIAL));
                let Some(bundle) = id.and_then(|id| BundleId::new(&instance, id)) else { continue };
                fs::rename(entry.path(), self.directory(&bundle))?;
                finished.push(bundle);
            }
        }
        Ok(finished)
    }

    fn bundles(&self, of: Option<&str>) -> io::Result<Vec<BundleId>> {
        let mut bundles = Vec::new();
        for instance in self.instances(of)? {
            let Ok(entries) = fs::read_dir(self.root.join(&instance)) else { continue };
            let ids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            bundles.extend(ids.filter_map(|id| BundleId::new(&instance, &id)).take(BUNDLES_MAX));
        }
        Ok(bundles)
    }

    fn instances(&self, of: Option<&str>) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let belongs = |name: &String| {
            let Ok(instance) = name.parse::<InstanceId>() else { return false };
            of.is_none_or(|of| of == name || of == instance.service.as_str())
        };
        Ok(names.filter(belongs).take(INSTANCES_MAX).collect())
    }

    fn size(&self, bundle: &BundleId) -> (u64, u64) {
        let files = self.files(bundle).unwrap_or_default();
        (files.iter().map(|(_, bytes)| *bytes).sum(), files.len() as u64)
    }

    /// What it takes on the disk: a core file may have holes.
    fn space(&self, bundle: &BundleId) -> u64 {
        let Ok(entries) = fs::read_dir(self.directory(bundle)) else { return 0 };
        let blocks = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.blocks()));
        blocks.sum::<u64>().saturating_mul(512)
    }
}

/// A link could lead anywhere, and a pipe could hang.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(evidence: &Evidence, instance: &str, id: &str, bytes: usize) -> BundleId {
        let bundle = BundleId::new(instance, id).unwrap();
        let directory = evidence.directory(&bundle);
        fs::create_dir_all(&directory).unwrap();
        let index = EvidenceIndex { cause: format!("because of {id}"), ..EvidenceIndex::default() };
        fs::write(directory.join(INDEX), serde_json::to_vec(&index).unwrap()).unwrap();
        fs::write(directory.join("threads.txt"), vec![b'x'; bytes]).unwrap();
        bundle
    }

    fn id(day: u32) -> String {
        format!("202611{day:02}T102233.123Z-17")
    }

    #[test]
    fn h15_the_oldest_go_and_the_newest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::of_state(directory.path());
        let web = "web".parse().unwrap();
        assert_eq!(evidence.list(None).unwrap(), []);
        for (instance, day) in [("web:0", 1), ("web:1", 2), ("web:0", 3), ("web-2", 1)] {
            put(&evidence, instance, &id(day), 50_000);
        }
        let ids = |of| {
            let list = evidence.list(of).unwrap();
            list.into_iter().map(|entry| (entry.instance, entry.id)).collect::<Vec<_>>()
        };
        assert_eq!(ids(Some("web")).len(), 3);
        assert_eq!(ids(Some("web:0")), [("web:0".into(), id(3)), ("web:0".into(), id(1))]);
        let removed = evidence.prune(&web, 2, u64::MAX).unwrap();
        assert_eq!(removed, [BundleId::new("web:0", &id(1)).unwrap()]);
        // By size: one alone is too large already, and stays.
        assert_eq!(evidence.prune(&web, 2, 60_000).unwrap().len(), 1);
        assert_eq!(evidence.prune(&web, 2, 10).unwrap(), []);
        assert_eq!(ids(None), [("web:0".into(), id(3)), ("web-2".into(), id(1))]);
    }

    #[test]
    fn what_was_not_finished_is_kept_under_its_own_name() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::of_state(directory.path());
        let bundle = put(&evidence, "web", &id(5), 10);
        fs::rename(evidence.directory(&bundle), evidence.partial(&bundle)).unwrap();
        assert_eq!(evidence.list(None).unwrap(), []);
        assert_eq!(evidence.finish_partial().unwrap(), std::slice::from_ref(&bundle));
        assert_eq!(evidence.index(&bundle).unwrap().cause, format!("because of {}", id(5)));
        assert_eq!(evidence.files(&bundle).unwrap()[1], ("threads.txt".to_owned(), 10));
    }

    #[test]
    fn no_name_from_outside_leads_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::of_state(directory.path());
        let bundle = put(&evidence, "web", &id(5), 10);
        assert!(evidence.open(&bundle, "threads.txt").is_ok());
        std::os::unix::fs::symlink("/etc/passwd", evidence.directory(&bundle).join("x.txt"))
            .unwrap();
        for name in
            ["", ".", "..", "../x", "/etc/passwd", ".hidden", "a/b", "x.txt", "A", "a..b", "no"]
        {
            assert!(evidence.open(&bundle, name).is_err(), "{name}");
        }
        for (instance, of) in [("..", id(5)), ("web", "..".into()), ("web/..", id(5)), ("", id(5))]
        {
            assert_eq!(BundleId::new(instance, &of), None);
        }
        assert_eq!(BundleId::parse(&format!("web/{}", id(5))), Some(bundle));
        for bad in
            ["20261124T102233.123Z", "20261124T102233.123Z-", "20261124T102233.123Z-1x", "2026"]
        {
            assert_eq!(BundleId::new("web", bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_bundle_is_always_in_its_instances_directory(instance: String, id: String) {
            if let Some(bundle) = BundleId::new(&instance, &id) {
                let path = Evidence::of_state(Path::new("/s")).directory(&bundle);
                prop_assert_eq!(path.components().count(), 5);
                prop_assert!(path.components().all(|part| part.as_os_str() != ".."));
            }
        }
    }
}
