//! The Debian package: the release binary, its manual, its unit, and where its settings go.
//!
//! Why: the way onto a server is one file and one command, and what is in the file can be made
//! again, bit for bit, by anyone.
//! Invariants: two runs on one commit with one toolchain make the same bytes; no path of the
//! building machine is in them; nothing is written outside the target folder.
//! Source: Debian Policy 4.6, chapters 5 (control), 6 (maintainer scripts), 10 (files);
//! dpkg-deb(1), "SOURCE_DATE_EPOCH"; <https://reproducible-builds.org/docs/source-date-epoch>.

use crate::report::{say, title};
use crate::tidy::metadata::Metadata;
use crate::tool;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Older libraries than this are nowhere that we support; also the answer if none is named.
const GLIBC_MIN: (u32, u32) = (2, 17);
/// Configuration belongs to the administrator: dpkg asks before it replaces a changed one.
const CONFFILES: &str = "/etc/holdfast/holdfast.toml\n";
const MAINTAINER_SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

const USAGE: &str = "\
usage: cargo xtask dist [--twice]

  --twice    build everything a second time, in another folder, and compare the packages
";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let twice = match arguments {
        [] => false,
        ["--twice"] => true,
        ["--help"] => {
            say(USAGE);
            return Ok(());
        }
        _ => bail!("{USAGE}"),
    };
    for program in ["dpkg-deb", "gzip", "md5sum"] {
        if tool::find(program).is_none() {
            bail!("`{program}` is needed to build the package and is not installed");
        }
    }
    let metadata = Metadata::load()?;
    let epoch = source_date()?;
    let made = make(&metadata, "dist", &epoch)?;
    if !twice {
        return Ok(());
    }
    let again = metadata.target_directory.join(AGAIN);
    if again.exists() {
        fs::remove_dir_all(&again).with_context(|| format!("cannot remove {}", again.display()))?;
    }
    let second = make(&metadata, AGAIN, &epoch)?;
    if fs::read(&made)? != fs::read(&second)? {
        bail!("{} and {} differ: see `diffoscope`", made.display(), second.display());
    }
    say("both are the same, byte for byte");
    fs::remove_dir_all(&again).with_context(|| format!("cannot remove {}", again.display()))
}

/// Where the second build of `--twice` lies, below the target folder.
const AGAIN: &str = "dist-again";

/// Builds it all in a folder below the target folder.
fn make(metadata: &Metadata, folder: &str, epoch: &str) -> Result<PathBuf> {
    let target = metadata.target_directory.join(folder);
    title("release binary");
    let binary = build(&target, epoch)?;
    title("package");
    let stage = target.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).context("cannot empty the staging folder")?;
    }
    let package = Package { stage, binary, epoch: epoch.to_owned() };
    package.fill()?;
    let made = package.pack(metadata, &target)?;
    say(&format!("made {}", made.display()));
    say(tool::output(tool::command("sha256sum").arg(&made))?.trim_end());
    Ok(made)
}

/// The time that goes into the package: given, or that of the commit.
fn source_date() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let of_commit = tool::output(tool::command("git").args(["log", "-1", "--format=%ct"]))?;
    Ok(of_commit.trim().to_owned())
}

/// Builds in a folder of its own, because other flags than the daily ones would rebuild everything
/// there and back.
fn build(target: &Path, epoch: &str) -> Result<PathBuf> {
    let build = target.join("build");
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut renamed = vec![(build.clone(), "/usr/src/holdfast/target")];
    renamed.push((tool::root(), "/usr/src/holdfast"));
    renamed.extend(cargo_home.map(|home| (home, "/usr/src/cargo")));
    let flags = |option: &str| -> String {
        let flags = renamed.iter().map(|(from, to)| format!("{option}={}={to}", from.display()));
        // The last one that fits wins, so the more special ones come last.
        flags.rev().collect::<Vec<_>>().join("\u{1f}")
    };
    tool::run(
        tool::cargo()
            .args(["build", "--release", "--locked", "--package", "holdfast", "--target-dir"])
            .arg(&build)
            .env("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix"))
            .env("CFLAGS", flags("-ffile-prefix-map").replace('\u{1f}', " "))
            .env("SOURCE_DATE_EPOCH", epoch),
    )?;
    Ok(build.join("release/holdfast"))
}

/// A package being put together.
struct Package {
    stage: PathBuf,
    binary: PathBuf,
    epoch: String,
}

impl Package {
    /// Puts every file where it will lie on the machine.
    fn fill(&self) -> Result<()> {
        let root = tool::root();
        self.put_program()?;
        self.put(
            "usr/lib/systemd/system/holdfast.service",
            &root.join("packaging/holdfast.service"),
        )?;
        self.put("etc/holdfast/holdfast.toml", &root.join("packaging/holdfast.toml"))?;
        self.folder("etc/holdfast/conf.d")?;
        self.put("usr/share/doc/holdfast/copyright", &root.join("packaging/deb/copyright"))?;
        self.put_text(
            "usr/share/doc/holdfast/examples/defaults.toml",
            &self.ask(&["config", "defaults"])?,
        )?;
        let changelog = root.join("CHANGELOG.md");
        if changelog.exists() {
            self.put("usr/share/doc/holdfast/changelog", &changelog)?;
            self.compress(&self.stage.join("usr/share/doc/holdfast/changelog"))?;
        }
        self.put_manual()?;
        for (shell, place) in [
            ("bash", "usr/share/bash-completion/completions/holdfast"),
            ("zsh", "usr/share/zsh/vendor-completions/_holdfast"),
            ("fish", "usr/share/fish/vendor_completions.d/holdfast.fish"),
        ] {
            self.put_text(place, &self.ask(&["completions", shell])?)?;
        }
        Ok(())
    }

    fn put_program(&self) -> Result<()> {
        self.put("usr/bin/holdfast", &self.binary)?;
        mode(&self.stage.join("usr/bin/holdfast"), 0o755)
    }

    fn put_manual(&self) -> Result<()> {
        let manual = self.folder("usr/share/man/man1")?;
        let place = manual.to_string_lossy();
        self.ask(&["man", "--dir", &place])?;
        let mut pages = 0;
        for page in fs::read_dir(&manual)?.flatten() {
            mode(&page.path(), 0o644)?;
            self.compress(&page.path())?;
            pages += 1;
        }
        if pages == 0 {
            bail!("`holdfast man --dir` wrote no page");
        }
        Ok(())
    }

    /// What the program that was just built prints.
    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tool::command(&self.binary);
        // The home of whoever builds must not reach a default value in the manual.
        command.env("HOME", "/root").env("SOURCE_DATE_EPOCH", &self.epoch).env("NO_COLOR", "1");
        tool::output(command.args(arguments))
    }

    fn folder(&self, place: &str) -> Result<PathBuf> {
        let folder = self.stage.join(place);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    fn put(&self, place: &str, source: &Path) -> Result<()> {
        let bytes =
            fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.put_bytes(place, &bytes)
    }

    fn put_text(&self, place: &str, text: &str) -> Result<()> {
        self.put_bytes(place, text.as_bytes())
    }

    fn put_bytes(&self, place: &str, bytes: &[u8]) -> Result<()> {
        let path = self.stage.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        mode(&path, 0o644)
    }

    /// Without the name and the time of the file, so that the same text gives the same bytes.
    fn compress(&self, path: &Path) -> Result<()> {
        tool::run(tool::command("gzip").args(["-9", "-n", "-f"]).arg(path).current_dir(&self.stage))
    }

    fn pack(&self, metadata: &Metadata, target: &Path) -> Result<PathBuf> {
        let files = files_below(&self.stage)?;
        let version = metadata
            .members()
            .find(|package| package.name == "holdfast")
            .map(|package| package.version.clone())
            .context("the workspace has no crate `holdfast`")?;
        let architecture =
            tool::output(tool::command("dpkg").arg("--print-architecture"))?.trim().to_owned();
        let glibc = glibc_of(&fs::read(&self.binary)?);
        let bytes: u64 =
            files.iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
        let control = fs::read_to_string(tool::root().join("packaging/deb/control"))?
            .replace("{version}", &version)
            .replace("{architecture}", &architecture)
            .replace("{installed_kib}", &bytes.div_ceil(1024).to_string())
            .replace("{glibc}", &format!("{}.{}", glibc.0, glibc.1));
        let sums = tool::output(
            tool::command("md5sum")
                .args(files.iter().filter_map(|file| file.strip_prefix(&self.stage).ok()))
                .current_dir(&self.stage),
        )?;
        self.put_text("DEBIAN/md5sums", &sums)?;
        self.put_text("DEBIAN/control", &control)?;
        self.put_text("DEBIAN/conffiles", CONFFILES)?;
        for script in MAINTAINER_SCRIPTS {
            let place = format!("DEBIAN/{script}");
            self.put(&place, &tool::root().join("packaging/deb").join(script))?;
            mode(&self.stage.join(place), 0o755)?;
        }
        folders_readable(&self.stage)?;
        let made = target.join(format!("holdfast_{version}_{architecture}.deb"));
        tool::run(
            tool::command("dpkg-deb")
                // One thread: more would cut the compressed stream where the machine likes.
                .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
                .args([&self.stage, &made])
                .env("SOURCE_DATE_EPOCH", &self.epoch),
        )?;
        Ok(made)
    }
}

/// The newest symbol version that the program asks of the C library.
fn glibc_of(program: &[u8]) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_2.";
    program
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .filter_map(|(at, _)| {
            let digits: String = program[at + MARK.len()..]
                .iter()
                .take(3)
                .take_while(|byte| byte.is_ascii_digit())
                .map(|byte| char::from(*byte))
                .collect();
            Some((2, digits.parse().ok()?))
        })
        .fold(GLIBC_MIN, Ord::max)
}

/// Every file below a folder, in the order of the paths.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// The mask of whoever builds must not decide who may enter a folder of the machine.
fn folders_readable(folder: &Path) -> Result<()> {
    mode(folder, 0o755)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders_readable(&path)?;
        }
    }
    Ok(())
}

fn mode(path: &Path, bits: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides() {
        assert_eq!(glibc_of(b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.18\0"), (2, 34));
        assert_eq!(glibc_of(b"nothing"), GLIBC_MIN);
        assert_eq!(glibc_of(b"GLIBC_2."), GLIBC_MIN);
    }

    #[test]
    fn the_unit_keeps_what_survival_needs() {
        let unit = fs::read_to_string(tool::root().join("packaging/holdfast.service")).unwrap();
        for line in [
            "Type=notify",
            "KillMode=process",
            "Delegate=yes",
            "Restart=always",
            "RuntimeDirectoryPreserve=yes",
            "NotifyAccess=main",
            "WatchdogSec=30",
        ] {
            assert!(unit.lines().any(|found| found == line), "the unit has no `{line}`");
        }
    }

    #[test]
    fn the_first_configuration_declares_nothing() {
        let text = fs::read_to_string(tool::root().join("packaging/holdfast.toml")).unwrap();
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')));
        // What is commented out must at least be TOML once it is not.
        let example: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.starts_with('[') || line.contains(" = "))
            .fold(String::new(), |all, line| all + line + "\n");
        let table: toml::Table = example.parse().unwrap();
        assert!(table.contains_key("service"), "{table:?}");
    }
}
