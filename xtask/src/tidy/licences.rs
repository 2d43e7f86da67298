//! Licences and banned crates: the rules of `deny.toml`, for everything that is linked.
//!
//! Why: cargo-deny is not everywhere; these two rules must hold on every machine, from one list.
//! Invariant: a licence expression passes only if the allowed licences satisfy it.
//! Source: SPDX specification 2.3, annex D "SPDX license expressions"; The Cargo Book, `license`.

use super::finding::Finding;
use super::metadata::Metadata;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What `deny.toml` says, as far as it is checked here.
#[derive(Debug)]
pub(crate) struct Policy {
    allowed: BTreeSet<String>,
    banned: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPolicy {
    licenses: RawLicenses,
    bans: RawBans,
}

#[derive(Deserialize)]
struct RawLicenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct RawBans {
    deny: Vec<RawBan>,
}

#[derive(Deserialize)]
struct RawBan {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Policy {
    pub(crate) fn parse(text: &str) -> Result<Policy> {
        let raw: RawPolicy = toml::from_str(text).context("cannot read deny.toml")?;
        let banned = raw.bans.deny.into_iter().map(|ban| (ban.name, ban.reason)).collect();
        Ok(Policy { allowed: raw.licenses.allow.into_iter().collect(), banned })
    }

    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let allowed = self.any_of(&mut rest);
        allowed && rest.is_empty()
    }

    /// `a OR b OR …`
    fn any_of(&self, words: &mut &[&str]) -> bool {
        let mut allowed = self.all_of(words);
        while let [first, rest @ ..] = *words
            && *first == "OR"
        {
            *words = rest;
            allowed |= self.all_of(words);
        }
        allowed
    }

    /// `a AND b AND …`, which binds closer than `OR`.
    fn all_of(&self, words: &mut &[&str]) -> bool {
        let mut allowed = self.one(words);
        while let [first, rest @ ..] = *words
            && *first == "AND"
        {
            *words = rest;
            allowed &= self.one(words);
        }
        allowed
    }

    /// `( … )`, `NAME` or `NAME WITH EXCEPTION`
    fn one(&self, words: &mut &[&str]) -> bool {
        match *words {
            ["(", rest @ ..] => {
                *words = rest;
                let allowed = self.any_of(words);
                let [")", rest @ ..] = *words else { return false };
                *words = rest;
                allowed
            }
            [name, "WITH", exception, rest @ ..] => {
                *words = rest;
                self.allowed.contains(&format!("{name} WITH {exception}"))
            }
            [name, rest @ ..] => {
                *words = rest;
                self.allowed.contains(*name)
            }
            [] => false,
        }
    }
}

pub(crate) fn check(metadata: &Metadata, policy: &Policy) -> Vec<Finding> {
    let lock = Path::new("Cargo.lock");
    let mut findings = Vec::new();
    for package in metadata.foreign() {
        let name = format!("{} {}", package.name, package.version);
        if let Some(reason) = policy.banned.get(&package.name) {
            let what = format!("`{name}` is in the tree, and it is banned: {reason}");
            let right = format!("find who wants it with `cargo tree -i {}`", package.name);
            findings.push(Finding::new(lock, 1, what, right));
        }
        let licence = package.license.as_deref().unwrap_or("none given");
        if !policy.allows(licence) {
            let what = format!("licence of `{name}` ({licence}) is not on the list of deny.toml");
            findings.push(Finding::new(lock, 1, what, "use another crate, or decide and list it"));
        }
    }
    findings
}

/// Crates that are there in more than one version: they cost build time, not correctness.
pub(crate) fn duplicates(metadata: &Metadata) -> Option<String> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in metadata.foreign() {
        *versions.entry(&package.name).or_default() += 1;
    }
    let more: Vec<&str> =
        versions.iter().filter(|(_, count)| **count > 1).map(|(name, _)| *name).collect();
    (!more.is_empty()).then(|| format!("in more than one version: {}", more.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{of, package};
    use super::*;

    fn policy() -> Policy {
        Policy::parse(
            "[licenses]\nallow = ['MIT', 'ISC', 'Apache-2.0', 'Apache-2.0 WITH LLVM-exception']\n\
             [bans]\ndeny = [{ crate = 'openssl', reason = 'one TLS stack' }]\n",
        )
        .unwrap()
    }

    #[test]
    fn expressions_are_weighed() {
        let allows = |expression: &str| policy().allows(expression);
        assert!(allows("MIT"));
        assert!(allows("MIT/Unknown"));
        assert!(allows("GPL-3.0 OR (MIT AND ISC)"));
        assert!(allows("Apache-2.0 WITH LLVM-exception"));
        assert!(!allows("GPL-3.0"));
        assert!(!allows("MIT AND GPL-3.0"));
        assert!(!allows("(MIT OR ISC) AND GPL-3.0"));
        assert!(!allows("MIT WITH Some-exception"));
        assert!(!allows("(MIT"));
        assert!(!allows(""));
    }

    #[test]
    fn banned_and_unlisted_crates_are_found() {
        let metadata = of(vec![
            package("openssl", Some("Apache-2.0"), &[]),
            package("nameless", None, &[]),
            package("fine", Some("MIT"), &[]),
        ]);
        let found: Vec<String> =
            check(&metadata, &policy()).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("banned: one TLS stack"));
        assert!(found[1].contains("`nameless 1.0.0` (none given)"));
    }

    #[test]
    fn duplicates_are_named() {
        let twice = package("syn", Some("MIT"), &[]);
        let packages = vec![twice.clone(), twice, package("one", Some("MIT"), &[])];
        let metadata = of(packages);
        assert_eq!(duplicates(&metadata).unwrap(), "in more than one version: syn");
    }
}
