//! `[api]`, `[api.tcp]` and `[[api.token]]`: who may ask, and from where.
//!
//! Invariants: a TCP listener beyond loopback has TLS; no two tokens share a name or a secret.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::settings::{ApiSettings, Principal, TcpApi, TlsFiles, Token};
use crate::source::Spot;
use crate::table::{Node, Table};
use crate::value::{absolute_path, choice, line, list, nonempty, socket_addr, table, wrong_type};
use std::collections::BTreeMap;

/// Bearer tokens. Each request is compared with all of them.
const TOKENS_MAX: usize = 1_000;

/// A `[[api.token]]` list of one file.
type TokenList<'a> = Node<'a>;

/// Reads `[api]`. The token lists of all files come apart, because they add up.
pub(crate) fn read_api(
    api: &mut Table<'_>,
    token_lists: &[TokenList<'_>],
    faults: &mut Faults<'_>,
) -> ApiSettings {
    let operators = api.read("operators", Vec::new(), faults, principals);
    let viewers = api.read("viewers", Vec::new(), faults, principals);
    let tcp = api.read_option("tcp", faults, read_tcp);
    let mut tokens = Vec::new();
    let mut first: BTreeMap<String, Spot> = BTreeMap::new();
    let _ = api.take("token");
    for node in token_lists {
        read_tokens(*node, &mut tokens, &mut first, faults);
    }
    if tcp.is_some() && token_lists.is_empty() {
        faults.push(
            Fault::warning("no-tokens", "the API listens on TCP, but nobody may use it")
                .at(api.key_spot("tcp"), "no [[api.token]] is configured")
                .help("run `holdfast token` and add what it prints"),
        );
    }
    api.finish(faults);
    ApiSettings { operators, viewers, tcp, tokens }
}

fn principals(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Vec<Principal>> {
    let example = format!("`{} = [\"user:alice\", \"group:ops\"]`", node.name);
    list(node, "a list of users and groups", &example, faults, principal)
}

fn principal(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Principal> {
    let text = nonempty(node, faults)?;
    let name = |name: &str| crate::service::is_account(name).then(|| name.to_owned());
    let found = match text.split_once(':') {
        None if text == "everyone" => Some(Principal::Everyone),
        Some(("user", user)) => name(user).map(Principal::User),
        Some(("group", group)) => name(group).map(Principal::Group),
        _ => None,
    };
    if found.is_none() {
        let help = if crate::service::is_account(text) {
            format!("write \"user:{text}\" or \"group:{text}\"")
        } else {
            "write \"user:NAME\", \"group:NAME\" or \"everyone\"".to_owned()
        };
        faults.push(
            Fault::error("bad-principal", format!("{} names nobody", quoted(text)))
                .at(node.spot, "neither user, group nor everyone")
                .help(help),
        );
    }
    found
}

fn read_tcp(node: Node<'_>, faults: &mut Faults<'_>) -> Option<TcpApi> {
    let mut tcp =
        table(node, "[api.tcp]", "`[api.tcp]`, then `listen = \"127.0.0.1:7491\"`", faults)?;
    let listen = tcp.read_option("listen", faults, socket_addr);
    let certificate = tcp.read_option("certificate", faults, absolute_path);
    let key = tcp.read_option("key", faults, absolute_path);
    tcp.finish(faults);
    let whole = tcp.sound(&["listen", "certificate", "key"]);
    if listen.is_none() && tcp.sound(&["listen"]) {
        faults.push(
            Fault::error("missing-key", "[api.tcp] has no `listen`")
                .at(tcp.spot, "where should it listen?")
                .help("add `listen = \"127.0.0.1:7491\"`, or remove the section"),
        );
    }
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (certificate, _) if whole => {
            let (there, missing) = match certificate {
                Some(_) => ("certificate", "key"),
                None => ("key", "certificate"),
            };
            faults.push(
                Fault::error(
                    "incomplete-tls",
                    format!("[api.tcp] has a {there}, but no {missing}"),
                )
                .at(tcp.key_spot(there), format!("needs a `{missing}` beside it"))
                .help(format!("add `{missing} = \"/etc/holdfast/…pem\"`")),
            );
            return None;
        }
        _ => return None,
    };
    let listen = listen?;
    if tls.is_none() && !listen.ip().is_loopback() && whole {
        faults.push(
            Fault::error(
                "tls-required",
                "the API would send tokens over the network in clear text",
            )
            .at(tcp.value_spot("listen"), "not a loopback address")
            .help("add `certificate` and `key`, or listen on 127.0.0.1"),
        );
    }
    Some(TcpApi { listen, tls })
}

fn read_tokens(
    node: Node<'_>,
    tokens: &mut Vec<Token>,
    first: &mut BTreeMap<String, Spot>,
    faults: &mut Faults<'_>,
) {
    let example = "`[[api.token]]` with double brackets";
    let read = list(node, "a list of tables", example, faults, |item, faults| {
        // A faulty token hides no other one.
        Some(read_token(item, faults))
    });
    for (token, spot) in read.into_iter().flatten().flatten() {
        let hash = hex(&token.sha256);
        for (what, key) in [("name", format!("name {}", token.name)), ("hash", hash)] {
            match first.get(&key) {
                Some(earlier) => faults.push(
                    Fault::error("duplicate-token", format!("two API tokens have the same {what}"))
                        .at(spot, format!("has the {what} of an earlier one"))
                        .also(*earlier, "the earlier one")
                        .help("remove one, or make a new one with `holdfast token`"),
                ),
                None => {
                    first.insert(key, spot);
                }
            }
        }
        tokens.push(token);
        if tokens.len() == TOKENS_MAX + 1 {
            faults.push(
                Fault::error("out-of-range", format!("more than {TOKENS_MAX} API tokens"))
                    .at(spot, "one too many")
                    .help("remove tokens that are no longer used"),
            );
        }
    }
}

fn read_token(node: Node<'_>, faults: &mut Faults<'_>) -> Option<(Token, Spot)> {
    let mut token = table(node, "[[api.token]]", "`[[api.token]]` with `name = \"…\"`", faults)?;
    let name = token.read_option("name", faults, |node, faults| {
        nonempty(node, faults)?;
        line(node, faults).map(str::to_owned)
    });
    let sha256 = token.read_option("sha256", faults, sha256);
    let roles = [("read", false), ("act", true)];
    let may_act = token.read("role", false, faults, |node, faults| choice(node, &roles, faults));
    token.finish(faults);
    for (key, there) in [("name", name.is_some()), ("sha256", sha256.is_some())] {
        if !there && token.sound(&[key]) {
            faults.push(
                Fault::error("missing-key", format!("an API token has no `{key}`"))
                    .at(token.spot, format!("needs a `{key}`"))
                    .help("run `holdfast token` and add what it prints"),
            );
        }
    }
    Some((Token { name: name?, sha256: sha256?, may_act }, token.value_spot("name")))
}

/// As hexadecimal digits.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// 64 hexadecimal digits.
pub(crate) fn sha256(node: Node<'_>, faults: &mut Faults<'_>) -> Option<[u8; 32]> {
    let Some(text) = node.value.as_str() else {
        let example = format!("`{} = \"9f86d0…\"`", node.name);
        wrong_type(node, "64 hexadecimal digits", &example, faults);
        return None;
    };
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    let whole = digits.len() == text.len();
    let pairs = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>();
    let hash = <[u8; 32]>::try_from(pairs).ok().filter(|_| whole && digits.len() == 64);
    if hash.is_none() {
        let help = match node.name {
            "sha256" => "run `holdfast token`: the hash belongs here, not the token itself",
            _ => "the hash belongs here: `printf %s PASSWORD | sha256sum`",
        };
        // The text itself is not repeated: it may be the secret instead of its hash.
        faults.push(
            Fault::error("bad-token", format!("`{}` is no SHA-256 hash", node.name))
                .at(node.spot, "not 64 hexadecimal digits")
                .help(help),
        );
    }
    hash
}
