//! `log`: where the output of a service goes.

use super::process::template_path;
use super::{DAY, Scope};
use crate::diagnostic::Faults;
use crate::table::{Node, Table};
use crate::value::{boolean, duration, integer, size, table};
use base::ByteSize;
use std::time::Duration;
use supervisor::LogPolicy;

/// Rotated files that may be kept.
const KEEP_MAX: u32 = 10_000;

/// A smaller file is rotated all the time.
const SIZE_MIN: ByteSize = ByteSize(4 * 1024);
const SIZE_MAX: ByteSize = ByteSize::mib(1 << 20);
const AGE_MIN: Duration = Duration::from_mins(1);

const EXAMPLE: &str = "`log = { size = \"10MiB\", keep = 5 }`";

/// What a service that says nothing gets: 60 MiB of history at most.
fn default_policy() -> LogPolicy {
    LogPolicy {
        path: None,
        size_max: ByteSize::mib(10),
        age_max: None,
        keep: 5,
        compress: true,
        split_stderr: false,
    }
}

/// Reads `log`.
pub(crate) fn read(service: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> LogPolicy {
    service.read("log", default_policy(), faults, |node, faults| read_table(node, scope, faults))
}

fn read_table(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<LogPolicy> {
    let mut log = table(node, "`log`", EXAMPLE, faults)?;
    let default = default_policy();
    let policy = LogPolicy {
        path: log.read_option("file", faults, |node, faults| template_path(node, scope, faults)),
        size_max: log.read("size", default.size_max, faults, |node, faults| {
            size(node, SIZE_MIN..=SIZE_MAX, faults)
        }),
        age_max: log.read("age", default.age_max, faults, |node, faults| {
            match node.value.as_str() {
                Some("never") => Some(None),
                _ => duration(node, AGE_MIN..=36_500 * DAY, faults).map(Some),
            }
        }),
        keep: log
            .read("keep", default.keep, faults, |node, faults| integer(node, 0..=KEEP_MAX, faults)),
        compress: log.read("compress", default.compress, faults, boolean),
        split_stderr: log.read("split_stderr", default.split_stderr, faults, boolean),
    };
    log.finish(faults);
    let keys = ["file", "size", "age", "keep", "compress", "split_stderr"];
    log.sound(&keys).then_some(policy)
}
