//! The file format of supervisord: sections of keys, as Python's `configparser` reads them.
//!
//! Why its quirks are kept: what supervisord took as a comment or as a continuation is no value,
//! and a value that it saw is not lost. Where it would have given up, the line is told and passed
//! over.
//! Invariants: a text of any content is read to its end; a key has the place of its last value.
//! Source: Python's library reference, "configparser", with `strict` off, inline comments by `;`
//! and `#`, and lower-case keys.

use std::collections::BTreeMap;

/// Sections of all files together. A larger supervisord.conf is none.
const SECTIONS_MAX: usize = 20_000;

/// Where something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// Which of the files.
    pub(crate) file: usize,
    /// From 1.
    pub(crate) line: usize,
}

/// The value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) value: String,
    pub(crate) place: Place,
}

/// A section, put together from all places where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) items: BTreeMap<String, Item>,
}

/// A line that says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadLine {
    pub(crate) place: Place,
    pub(crate) why: &'static str,
}

/// All files, one after the other: what comes later is stronger.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ini {
    /// In the order of their first places.
    pub(crate) sections: Vec<Section>,
    pub(crate) bad_lines: Vec<BadLine>,
    by_name: BTreeMap<String, usize>,
    /// `[DEFAULT]`: values for all sections.
    defaults: BTreeMap<String, Item>,
}

/// Which section lines go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Current {
    None,
    Default,
    Section(usize),
}

impl Ini {
    /// Reads one more file.
    pub(crate) fn read(&mut self, file: usize, text: &str) {
        let mut current = Current::None;
        let mut key: Option<String> = None;
        let mut indent = 0;
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let place = Place { file, line: index + 1 };
            let comment = comment_start(line);
            let value = line[..comment.unwrap_or(line.len())].trim();
            if value.is_empty() {
                if comment.is_none() {
                    self.go_on(current, key.as_deref(), "");
                }
                continue;
            }
            let own_indent = line.chars().take_while(|c| c.is_whitespace()).count();
            if key.is_some() && indent < own_indent {
                self.go_on(current, key.as_deref(), value);
                continue;
            }
            indent = own_indent;
            if let Some(name) = header(value) {
                current = self.section(name, place);
                key = None;
                continue;
            }
            key = self.item(current, value, place);
        }
        self.trim_values();
    }

    fn section(&mut self, name: &str, place: Place) -> Current {
        if name == "DEFAULT" {
            return Current::Default;
        }
        if let Some(index) = self.by_name.get(name) {
            return Current::Section(*index);
        }
        if self.sections.len() == SECTIONS_MAX {
            self.bad_lines.push(BadLine { place, why: "one section too many" });
            return Current::None;
        }
        let index = self.sections.len();
        self.by_name.insert(name.to_owned(), index);
        self.sections.push(Section { name: name.to_owned(), place, items: BTreeMap::new() });
        Current::Section(index)
    }

    fn items(&mut self, current: Current) -> Option<&mut BTreeMap<String, Item>> {
        match current {
            Current::None => None,
            Current::Default => Some(&mut self.defaults),
            Current::Section(index) => {
                self.sections.get_mut(index).map(|section| &mut section.items)
            }
        }
    }

    /// Adds `key=value` or `key: value`; the key, if it is one.
    fn item(&mut self, current: Current, line: &str, place: Place) -> Option<String> {
        let delimiter = line.find(['=', ':']).filter(|at| 0 < *at);
        let why = match (delimiter, self.items(current)) {
            (Some(at), Some(items)) => {
                let (key, value) = (line[..at].trim().to_lowercase(), line[at + 1..].trim());
                items.insert(key.clone(), Item { value: value.to_owned(), place });
                return Some(key);
            }
            (None, Some(_)) => "neither a section nor `key=value`",
            (_, None) => "stands before the first section",
        };
        self.bad_lines.push(BadLine { place, why });
        None
    }

    /// Another line of the value before.
    fn go_on(&mut self, current: Current, key: Option<&str>, more: &str) {
        let Some(key) = key else { return };
        if let Some(item) = self.items(current).and_then(|items| items.get_mut(key)) {
            item.value.push('\n');
            item.value.push_str(more);
        }
    }

    fn trim_values(&mut self) {
        let sections = self.sections.iter_mut().map(|section| &mut section.items);
        for item in sections.chain([&mut self.defaults]).flat_map(BTreeMap::values_mut) {
            item.value.truncate(item.value.trim_end().len());
        }
    }

    /// The value of a key, in the section or in `[DEFAULT]`.
    pub(crate) fn get<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Item> {
        section.items.get(key).or_else(|| self.defaults.get(key))
    }

    /// The section of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Section> {
        self.by_name.get(name).and_then(|index| self.sections.get(*index))
    }
}

/// The name in `[name]`.
fn header(value: &str) -> Option<&str> {
    let rest = value.strip_prefix('[')?;
    let end = rest.rfind(']')?;
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// Where a comment begins: `;` or `#` first in the line, or after a blank. As there, both are looked
/// for in rounds, and the first round that finds one ends the search.
fn comment_start(line: &str) -> Option<usize> {
    let mut from = [Some(0), Some(0)];
    while from.iter().any(Option::is_some) {
        let mut found: Option<usize> = None;
        for (next, prefix) in from.iter_mut().zip([';', '#']) {
            let at = next.and_then(|from| line[from..].find(prefix).map(|at| from + at));
            *next = at.map(|at| at + 1);
            let Some(at) = at else { continue };
            let before = line[..at].chars().next_back();
            if before.is_none_or(char::is_whitespace) {
                found = Some(found.map_or(at, |found| found.min(at)));
            }
        }
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Ini {
        let mut ini = Ini::default();
        ini.read(0, text);
        ini
    }

    fn value(text: &str, section: &str, key: &str) -> Option<String> {
        let ini = read(text);
        let section = ini.named(section)?;
        ini.get(section, key).map(|item| item.value.clone())
    }

    #[test]
    fn values_are_what_configparser_makes_of_them() {
        let text = "\u{feff}; comment\n[a]\nKey = one ; comment\nhash=x#y #z\nurl=http://x;y\n\
                    long = first\n  second ; cut\n\n  third\n ; comment\n  fourth\n\
                    colon: c=d\nempty=\n[b] ; comment\nkey=b\n[a]\nkey=again\n";
        let get = |section, key| value(text, section, key);
        assert_eq!(get("a", "key").as_deref(), Some("again"));
        assert_eq!(get("a", "hash").as_deref(), Some("x#y"));
        assert_eq!(get("a", "url").as_deref(), Some("http://x;y"));
        assert_eq!(get("a", "long").as_deref(), Some("first\nsecond\n\nthird\nfourth"));
        assert_eq!(get("a", "colon").as_deref(), Some("c=d"));
        assert_eq!(get("a", "empty").as_deref(), Some(""));
        assert_eq!(get("b", "key").as_deref(), Some("b"));
        assert_eq!(get("b", "long"), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_told_and_passed_over() {
        let ini = read("before=1\n[a]\nnothing\n=x\nkey=1\n[]\n[DEFAULT]\nshared=2\n");
        let lines: Vec<usize> = ini.bad_lines.iter().map(|bad| bad.place.line).collect();
        assert_eq!(lines, [1, 3, 4, 6]);
        let a = ini.named("a").unwrap();
        assert_eq!(ini.get(a, "key").unwrap().place.line, 5);
        assert_eq!(ini.get(a, "shared").unwrap().value, "2", "[DEFAULT] holds everywhere");
    }

    #[test]
    fn a_comment_begins_after_a_blank() {
        for (line, at) in [
            ("a=b;c", None),
            ("a=b ;c", Some(4)),
            ("#a", Some(0)),
            ("  # a", Some(2)),
            ("bash -c 'x ; y'", Some(11)),
            ("a=x;y ;z", Some(6)),
            ("a=x;y #z ;w", Some(6)),
            ("a=x;y ;z #w", Some(9)),
        ] {
            assert_eq!(comment_start(line), at, "{line}");
        }
    }
}
