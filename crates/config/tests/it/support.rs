//! What all tests need.

use config::{Config, Context, Loaded};
use std::path::PathBuf;

/// A machine that is always the same.
pub(crate) fn context() -> Context {
    Context {
        hostname: "node1".to_owned(),
        is_root: true,
        home: "/root".into(),
        xdg_state_home: None,
        xdg_runtime_dir: None,
        state_dir_override: None,
    }
}

/// Checks one text.
pub(crate) fn parse(text: &str) -> Loaded {
    parse_all(&[("holdfast.toml", text)])
}

/// Checks several texts.
pub(crate) fn parse_all(texts: &[(&str, &str)]) -> Loaded {
    let texts = texts.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    config::parse(texts.collect(), &context())
}

/// A text without faults.
pub(crate) fn good(text: &str) -> Config {
    let loaded = parse(text);
    let shown = loaded.diagnostics.render(false);
    loaded.config.unwrap_or_else(|| panic!("{shown}"))
}

/// Services of one text each, in which `N` is their number.
pub(crate) fn repeated(count: usize, service: &str) -> String {
    let texts: Vec<String> = (0..count).map(|n| service.replace('N', &n.to_string())).collect();
    texts.concat()
}

/// The codes of all faults, in order.
pub(crate) fn codes(text: &str) -> Vec<&'static str> {
    parse(text).diagnostics.iter().map(|d| d.code).collect()
}

/// Compares with `tests/golden/NAME.snap`.
pub(crate) fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
