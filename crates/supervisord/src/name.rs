//! How holdfast's names become supervisord's, and back.
//!
//! A service is a group. Its only instance is called like it, which `supervisorctl` shows as `web`.
//! Several instances are numbered as supervisord's own documentation does it: `worker:worker_0`.
//! Both `worker:worker_0` and holdfast's own `worker:0` are understood; leading zeros, which a
//! `process_name` with `%02d` has, do not matter.

/// A process as supervisord names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProcessName {
    /// The service.
    pub group: String,
    /// The instance.
    pub process: String,
}

impl ProcessName {
    /// Of one of our instances: `web`, `worker:0`.
    pub fn of(instance: &str) -> Self {
        match instance.split_once(':') {
            None => Self { group: instance.to_owned(), process: instance.to_owned() },
            Some((group, index)) => {
                Self { group: group.to_owned(), process: format!("{group}_{index}") }
            }
        }
    }
}

/// What a text of a client may mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Every process of a group.
    Group(String),
    /// The instance of that name of ours.
    Instance(String),
}

/// Reads a name as clients write it.
pub fn wanted(text: &str) -> Wanted {
    let Some((group, process)) = text.split_once(':') else {
        return Wanted::Instance(text.to_owned());
    };
    if matches!(process, "" | "*") {
        return Wanted::Group(group.to_owned());
    }
    if process == group {
        return Wanted::Instance(group.to_owned());
    }
    let numbered = process.strip_prefix(group).and_then(|rest| rest.strip_prefix('_'));
    let digits = numbered.unwrap_or(process);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(index) if is_number => Wanted::Instance(format!("{group}:{index}")),
        // Nobody's name, and it stays as it was written for the message that says so.
        _ => Wanted::Instance(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let pair = |instance: &str| {
            let name = ProcessName::of(instance);
            (name.group, name.process)
        };
        assert_eq!(pair("web"), ("web".into(), "web".into()));
        assert_eq!(pair("worker:12"), ("worker".into(), "worker_12".into()));
        for (instance, ways) in [
            ("web", &["web", "web:web"][..]),
            ("worker:0", &["worker:worker_0", "worker:0", "worker:worker_00", "worker:000"]),
            ("a_1:2", &["a_1:a_1_2", "a_1:2"]),
        ] {
            for way in ways {
                assert_eq!(wanted(way), Wanted::Instance(instance.into()), "{way}");
            }
        }
        for way in ["worker:*", "worker:"] {
            assert_eq!(wanted(way), Wanted::Group("worker".into()));
        }
        for way in ["worker:worker_", "worker:+1", "worker:70000", "worker:worker_x"] {
            assert_eq!(wanted(way), Wanted::Instance(way.into()));
        }
    }
}
