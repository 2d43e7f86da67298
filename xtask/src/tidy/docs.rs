//! Documentation that leads somewhere: every relative link resolves, and every page can be found.
//!
//! Source: CommonMark 0.31, "Links"; how forges make anchors of headings.

use super::Files;
use super::finding::Finding;
use std::path::{Component, Path, PathBuf};

/// The pages from which each page under `docs/` must be linked.
const ENTRANCES: [&str; 2] = ["README.md", "docs/index.md"];

/// `exists` says whether a path, relative to the root, is there; it also knows pictures.
pub(crate) fn check(files: &Files, exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pages = || files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "md"));
    for (path, text) in pages() {
        for (line, target) in links(text) {
            if let Some(what) = breach(path, &target, files, exists) {
                findings.push(Finding::new(path, line, what, "mend the link"));
            }
        }
    }
    let found: Vec<PathBuf> = ENTRANCES
        .iter()
        .filter_map(|entrance| files.get_key_value(Path::new(entrance)))
        .flat_map(|(path, text)| {
            links(text).into_iter().map(|(_, target)| resolve(path, split_anchor(&target).0))
        })
        .collect();
    for (path, _) in pages() {
        let is_page = path.parent() == Some(Path::new("docs"));
        if is_page && path != Path::new(ENTRANCES[1]) && !found.contains(path) {
            let right = "link it from README.md or docs/index.md";
            findings.push(Finding::new(path, 1, "no reader can find this page", right));
        }
    }
    findings
}

fn breach(
    page: &Path,
    target: &str,
    files: &Files,
    exists: &dyn Fn(&Path) -> bool,
) -> Option<String> {
    let foreign = target.contains("://") || target.starts_with("mailto:");
    if foreign {
        return None;
    }
    let (file, anchor) = split_anchor(target);
    let file = if file.is_empty() { page.to_path_buf() } else { resolve(page, file) };
    if !exists(&file) {
        return Some(format!("link to `{target}`, which does not exist"));
    }
    let text = files.get(&file)?;
    let is_page = file.extension().is_some_and(|ext| ext == "md");
    let anchor = anchor.filter(|_| is_page)?;
    let there = anchors(text).iter().any(|found| found == anchor);
    (!there).then(|| format!("link to `{target}`, but no heading there makes `#{anchor}`"))
}

fn split_anchor(target: &str) -> (&str, Option<&str>) {
    target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)))
}

/// The path of `target` as seen from `page`, without `.` and `..`.
fn resolve(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().map(Path::to_path_buf).unwrap_or_default();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                // Above the root, the dots are kept, so that such a link is found as broken.
                if !path.pop() {
                    path.push("..");
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => path.push(part),
        }
    }
    path
}

/// Targets of `[text](target)` and `<img src="target">`, outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            links.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
        for quoted in ["src=\"", "href=\"", "srcset=\""] {
            for (at, _) in line.match_indices(quoted) {
                let target = line[at + quoted.len()..].split('"').next().unwrap_or_default();
                links.push((number, target.to_owned()));
            }
        }
    }
    links.retain(|(_, target)| !target.is_empty());
    links
}

/// The lines outside fenced code, with what stands between backticks taken out.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                let outside: Vec<&str> = line.split('`').step_by(2).collect();
                lines.push((index + 1, outside.join("``")));
            }
        }
    }
    lines
}

/// The anchors that the headings of a page make.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len() && heading.starts_with(' ') && !in_code;
        if !is_heading {
            continue;
        }
        let plain: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let again = anchors.iter().filter(|found| **found == plain).count();
        anchors.push(if again == 0 { plain } else { format!("{plain}-{again}") });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(&str, &str)]) -> Vec<String> {
        let files: Files =
            pages.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let exists = |path: &Path| files.contains_key(path) || path == Path::new("docs/shot.png");
        check(&files, &exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let readme =
            "[a](docs/a.md) [b](docs/b.md#two) ![c](docs/shot.png)\n[x](https://x.org/y)\n";
        let page = "# One\n[back](../README.md)\n[up](../../other.md)\n";
        let found = found(&[("README.md", readme), ("docs/a.md", page), ("docs/b.md", "# One\n")]);
        assert_eq!(
            found,
            [
                "README.md:1: link to `docs/b.md#two`, but no heading there makes `#two`; mend the link",
                "docs/a.md:3: link to `../../other.md`, which does not exist; mend the link",
            ]
        );
    }

    #[test]
    fn code_is_not_a_link() {
        let readme =
            "`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```\n[c](#code-here)\n\n## Code `here`\n";
        assert_eq!(found(&[("README.md", readme)]), [""; 0]);
    }

    #[test]
    fn every_page_can_be_found() {
        let pages = [
            ("README.md", "[i](docs/index.md)\n"),
            ("docs/index.md", "[a](a.md)\n"),
            ("docs/a.md", "x\n"),
            ("docs/lost.md", "x\n"),
            ("docs/decisions/0001-x.md", "x\n"),
        ];
        let found = found(&pages);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("docs/lost.md:1: no reader can find this page"));
    }

    #[test]
    fn pictures_in_markup_count() {
        let found = found(&[("README.md", "<img src=\"docs/gone.png\" width=\"80%\">\n")]);
        assert!(found[0].contains("docs/gone.png"));
    }

    #[test]
    fn headings_make_anchors() {
        let text = "# Hello, World!\n## `run` it\n## `run` it\n```\n# no\n```\n";
        assert_eq!(anchors(text), ["hello-world", "run-it", "run-it-1"]);
    }
}
