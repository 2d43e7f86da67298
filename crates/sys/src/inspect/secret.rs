//! What must not be read by whoever reads evidence: passwords, tokens, keys.
//!
//! A secret is known by the name that it is given under, or by its place in a URL. Its length is
//! told, as that has solved many a riddle.
//! Invariant: once a name is one of a secret, nothing of the value is shown.

use std::borrow::Cow;

/// Parts of names that give secrets away, in capitals.
const NAMES: [&str; 11] = [
    "PASS",
    "PWD",
    "SECRET",
    "TOKEN",
    "KEY",
    "CREDENTIAL",
    "AUTH",
    "DSN",
    "COOKIE",
    "PRIVATE",
    "SALT",
];

/// Names that only look like it.
const HARMLESS: [&str; 2] = ["PWD", "OLDPWD"];

/// True if a variable or an option of this name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_uppercase();
    NAMES.iter().any(|part| name.contains(part)) && !HARMLESS.contains(&name.as_str())
}

/// What stands in the place of a secret.
pub(super) fn hidden(bytes: usize) -> String {
    format!("***({bytes} bytes)")
}

/// A text without the password (or the whole login) of each URL in it, and without the value of
/// each `name=value` whose name is one of a secret: `postgres://app:***(6 bytes)@db/x`.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains("://") && !text.contains('=') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(without_logins(&without_pairs(text)))
}

/// `host=db password=x`, `?user=a&password=x`.
fn without_pairs(text: &str) -> String {
    let separates = |c: char| c.is_whitespace() || matches!(c, '?' | '&' | ';' | ',' | '"' | '\'');
    let mut done = String::with_capacity(text.len());
    for piece in text.split_inclusive(separates) {
        let end = piece.rfind(separates).unwrap_or(piece.len());
        let (pair, separator) = piece.split_at(end);
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() => {
                done.push_str(name);
                done.push('=');
                done.push_str(&hidden(value.len()));
            }
            _ => done.push_str(pair),
        }
        done.push_str(separator);
    }
    done
}

/// What stands between `://` and the last `@` of the same URL is a login. It may contain what
/// should have been escaped: rather too much is hidden than too little.
fn without_logins(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        done.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
        let word = behind.split(ends).next().unwrap_or("");
        let word = first_url(word);
        rest = behind;
        let Some(login) = word.rfind('@').and_then(|end| word.get(..end)) else { continue };
        let user = login.split_once(':').map(|(user, _)| user);
        let user = user.filter(|user| !user.contains(['/', '?', '#']));
        if let Some(user) = user {
            done.push_str(user);
            done.push(':');
        }
        let shown = user.map_or(0, |user| user.len() + 1);
        done.push_str(&hidden(login.len() - shown));
        rest = behind.get(login.len()..).unwrap_or("");
    }
    done.push_str(rest);
    done
}

/// The first URL of a list `URL,URL`, both without spaces. A separator that comes before an `@` may
/// be part of a password, and so may a `://` without a separator: neither ends the URL.
fn first_url(word: &str) -> &str {
    let separators = word.match_indices([',', ';', '|']);
    let mut ends = separators.map(|(at, _)| word.split_at(at)).filter(|(url, behind)| {
        let next = behind.get(1..).unwrap_or("");
        let scheme = next.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        !scheme.is_empty() && scheme.chars().all(is_scheme) && url.contains('@')
    });
    ends.next().map_or(word, |(url, _)| url)
}

/// `NAME=value` with a secret value hidden.
pub(super) fn masked_assignment(text: &str) -> Cow<'_, str> {
    match text.split_once('=') {
        Some((name, value)) if is_secret(name) => {
            Cow::Owned(format!("{name}={}", hidden(value.len())))
        }
        _ => masked(text),
    }
}

/// A command line as [`crate::proc_fs::command_line`] gives it, without its secrets.
pub fn masked_command(command: &str) -> String {
    masked_arguments(command.split(' ')).join(" ")
}

/// A command line: `--password=x`, `--password x`, `PASSWORD=x` and URLs with a login.
pub(super) fn masked_arguments<'a>(arguments: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut hide_next = false;
    let mut done = Vec::new();
    for argument in arguments {
        let is_option = argument.starts_with('-');
        if std::mem::take(&mut hide_next) && !is_option {
            done.push(hidden(argument.len()));
            continue;
        }
        hide_next = is_option && !argument.contains('=') && is_secret(argument);
        done.push(masked_assignment(argument).into_owned());
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in
            ["DB_PASSWORD", "db_passwd", "PGPASSFILE", "API_KEY", "MYSQL_PWD", "--auth-token"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PATH", "PWD", "OLDPWD", "LANG", "--port", ""] {
            assert!(!is_secret(name), "{name}");
        }
        assert_eq!(masked_assignment("API_KEY=abcdef"), "API_KEY=***(6 bytes)");
        assert_eq!(masked_assignment("PATH=/bin"), "PATH=/bin");
        assert_eq!(masked_assignment("nothing"), "nothing");
    }

    #[test]
    fn logins_in_urls_are_hidden() {
        let cases = [
            ("postgres://app:s3cret@db:5432/x", "postgres://app:***(6 bytes)@db:5432/x"),
            ("redis://:pw@r", "redis://:***(2 bytes)@r"),
            ("https://token@git/x", "https://***(5 bytes)@git/x"),
            ("http://host/a@b", "http://***(6 bytes)@b"),
            ("http://host/path", "http://host/path"),
            (
                "a http://u:p@h, b http://v:qq@i",
                "a http://u:***(1 bytes)@h, b http://v:***(2 bytes)@i",
            ),
            ("amqp://u:a/b@h", "amqp://u:***(3 bytes)@h"),
            ("host=db password=x port=1", "host=db password=***(1 bytes) port=1"),
            (
                "jdbc:x://h/d?user=u&password=pw&a=b",
                "jdbc:x://h/d?user=u&password=***(2 bytes)&a=b",
            ),
            ("amqp://u:p@h,amqp://v:q@i", "amqp://u:***(1 bytes)@h,amqp://v:***(1 bytes)@i"),
            ("amqp://u:p@h;amqp://v:q,r@i", "amqp://u:***(1 bytes)@h;amqp://v:***(3 bytes)@i"),
            ("amqp://u:A#a://@h", "amqp://u:***(6 bytes)@h"),
            ("amqp://u:p,a://q@h", "amqp://u:***(7 bytes)@h"),
            ("amqp://u:p@q://r@h", "amqp://u:***(7 bytes)@h"),
            ("http://a:1,http://b:2", "http://a:1,http://b:2"),
            ("no url", "no url"),
        ];
        for (text, expect) in cases {
            assert_eq!(masked(text), expect, "{text}");
        }
    }

    #[test]
    fn options_are_hidden_with_what_follows_them() {
        let line =
            "app --password hunter2 --port 80 --api-key=abc -v --secret --db postgres://a:b@c";
        let expect = "app --password ***(7 bytes) --port 80 --api-key=***(3 bytes) -v --secret --db \
                      postgres://a:***(1 bytes)@c";
        assert_eq!(masked_arguments(line.split(' ')).join(" "), expect);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = (masked(&text), masked_assignment(&text), masked_arguments(text.split(' ')));
        }

        #[test]
        fn no_password_of_a_url_is_shown(password in "[A-Za-z0-9/@?#:,]{0,8}(://)?[A-Za-z0-9/@?#:]{8,16}") {
            // Whoever has another URL behind a login in his password asks too much.
            prop_assume!(!password.split_once('@').is_some_and(|(_, it)| it.contains(',')));
            let text = format!("x postgres://user:{password}@host/db y");
            let shown = masked(&text).into_owned();
            prop_assert!(!shown.contains(&password), "{shown}");
        }
    }
}
