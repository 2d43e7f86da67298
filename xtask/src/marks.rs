//! Pages with parts that programs write: put between marks, never edited by hand.
//!
//! Invariant: what stands outside the marks is left alone, and a section that was not measured now
//! keeps what was measured last.

use crate::report::say;
use crate::tool;
use anyhow::{Context, Result};
use std::fs;

/// Puts sections, each with its name, into a page of the repository.
pub(crate) fn write(page: &str, sections: &[(&str, &str)]) -> Result<()> {
    let path = tool::root().join(page);
    let mut text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (section, new) in sections {
        text = put(&text, section, new)?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}

/// Replaces what stands between the marks of a section.
fn put(page: &str, section: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {section}: begin -->\n"), format!("<!-- {section}: end -->"));
    let (before, rest) =
        page.split_once(&begin).with_context(|| format!("the page has no line `{begin}`"))?;
    let (_, after) =
        rest.split_once(&end).with_context(|| format!("the page has no line `{end}`"))?;
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n";
        let changed = put(page, "x", "new\n").unwrap();
        assert_eq!(changed, page.replace("old", "new"));
        assert!(put(page, "z", "new").is_err());
    }
}
