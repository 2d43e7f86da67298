//! Reading from disk: which files, in which order, and what is said of those that can't be read.

use crate::support::{context, golden};
use config::{Loaded, load};
use std::fs;
use std::path::{Path, PathBuf};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("conf.d")).unwrap();
        Self { directory }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Loaded {
        load(&self.path("holdfast.toml"), &context())
    }

    /// As text, without the name of the temporary directory.
    fn rendered(&self) -> String {
        let shown = self.load().diagnostics.render(false);
        shown.replace(&self.directory.path().display().to_string(), "/etc/holdfast")
    }
}

const SERVICE: &str = "[service.NAME]\ncommand = \"true\"\n";

#[test]
fn the_main_file_and_its_parts_are_one_configuration() {
    let place = Place::new();
    let main = place.write("holdfast.toml", SERVICE.replace("NAME", "main"));
    let b = place.write("conf.d/b.toml", SERVICE.replace("NAME", "b"));
    let a = place.write("conf.d/a.toml", SERVICE.replace("NAME", "a"));
    place.write("conf.d/.hidden.toml", "not TOML");
    place.write("conf.d/a.toml~", "not TOML");
    place.write("conf.d/README", "not TOML");
    let loaded = place.load();
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(false));
    assert_eq!(loaded.files, [main, a, b]);
    let names: Vec<String> =
        loaded.config.unwrap().services.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b", "main"]);
}

#[test]
fn a_missing_main_file_is_said_with_a_way_to_make_one() {
    let place = Place::new();
    assert!(place.load().config.is_none());
    golden("missing_file", &place.rendered());
}

#[test]
fn what_can_not_be_read_hides_nothing_else() {
    let place = Place::new();
    place.write("holdfast.toml", b"[service.a]\ncommand = \"caf\xe9\"\nnice = 77\n");
    fs::create_dir(place.path("conf.d/10-directory.toml")).unwrap();
    place.write("conf.d/20-large.toml", vec![b'#'; config::FILE_BYTES_MAX as usize + 1]);
    place.write("conf.d/30-faulty.toml", "[daemon]\nnode = 5\n");
    std::os::unix::fs::symlink("nowhere", place.path("conf.d/40-dangling.toml")).unwrap();
    assert!(place.load().config.is_none());
    golden("unreadable", &place.rendered());
}

#[test]
fn conf_d_that_is_no_directory_is_a_fault() {
    let place = Place::new();
    place.write("holdfast.toml", SERVICE);
    fs::remove_dir(place.path("conf.d")).unwrap();
    place.write("conf.d", "");
    let codes: Vec<&str> = place.load().diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["unreadable"]);
    fs::remove_file(place.path("conf.d")).unwrap();
    assert!(place.load().diagnostics.is_empty(), "no conf.d at all is fine");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let place = Place::new();
    let path = place.path("holdfast.toml");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let codes: Vec<&str> = place.load().diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["unreadable"]);
}

#[test]
fn too_many_files_are_refused() {
    let place = Place::new();
    place.write("holdfast.toml", "");
    for n in 0..config::FILES_MAX {
        place.write(&format!("conf.d/{n:05}.toml"), "");
    }
    let codes: Vec<&str> = place.load().diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["too-many-files", "no-services"]);
}

#[test]
fn every_example_of_the_documentation_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = load(&path, &context());
            assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(false));
            seen += 1;
        }
    }
    assert!(5 <= seen, "only {seen} examples");
}

/// The TOML blocks of the pages are valid each by itself.
#[test]
fn every_piece_of_toml_in_the_reference_is_valid() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let read = |page: &str| fs::read_to_string(docs.join(page)).unwrap();
    let text = ["configuration.md", "health.md"].map(read).concat();
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(10 <= blocks.len(), "only {} blocks", blocks.len());
    for block in blocks {
        let loaded = config::parse(vec![("configuration.md".into(), block.to_owned())], &context());
        let faults = loaded.diagnostics.iter().filter(|d| d.code != "no-services");
        assert_eq!(faults.count(), 0, "{block}\n{}", loaded.diagnostics.render(false));
    }
}
