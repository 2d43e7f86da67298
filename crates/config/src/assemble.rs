//! From texts to a checked [`Config`]: the sections of all files, each read by itself, then the
//! checks that look at several at once.
//!
//! Invariant: there is a configuration exactly when there is no error.

use crate::api::read_api;
use crate::conflict::{self, Listeners};
use crate::daemon::{Context, read_console, read_daemon, read_health, read_journal};
use crate::diagnostic::{Diagnostics, Fault, Faults, quoted};
use crate::graph;
use crate::hook;
use crate::mail;
use crate::service::{Draft, read_service};
use crate::settings::Config;
use crate::source::{FileId, Sources, Spot};
use crate::suggest::did_you_mean;
use crate::supervisord;
use crate::syntax;
use crate::table::{Entry, Node, Table, entries_of};
use crate::value::wrong_type;
use base::ServiceName;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeTable;

/// Services of one configuration.
pub const SERVICES_MAX: usize = 10_000;

const SECTIONS: [&str; 10] = [
    "daemon",
    "console",
    "journal",
    "api",
    "health",
    "mail",
    "supervisord",
    "hook",
    "defaults",
    "service",
];

/// The sections of all files, put together.
struct Sections<'a> {
    settings: BTreeMap<&'static str, Table<'a>>,
    token_lists: Vec<Node<'a>>,
    hooks: Vec<(&'a str, Entry<'a>)>,
    services: Vec<(&'a str, Entry<'a>)>,
}

/// Checks everything. `early` are faults of reading.
pub(crate) fn assemble(
    sources: &Sources,
    early: Vec<Fault>,
    context: &Context,
) -> (Option<Config>, Diagnostics) {
    let mut faults = Faults::new(sources);
    for fault in early {
        faults.push(fault);
    }
    let mended: Vec<Cow<'_, str>> =
        sources.ids().map(|file| syntax::mend(file, &mut faults)).collect();
    let tables: Vec<(FileId, Spanned<DeTable<'_>>)> = sources
        .ids()
        .zip(&mended)
        .map(|(file, text)| (file, syntax::parse(file, text, &mut faults)))
        .collect();
    let mut sections = collect(&tables, &mut faults);

    let (settings, places, mut defaults) = read_settings(&mut sections, context, &mut faults);
    check_defaults(&mut defaults, &mut faults);
    let (drafts, unreadable) = read_services(&sections.services, &defaults, &mut faults);
    graph::check(&drafts, &unreadable, &mut faults);
    conflict::check(&drafts, &settings, &places, &mut faults);
    if sections.services.is_empty() && sources.ids().next().is_some() {
        faults.push(
            Fault::warning("no-services", "no services are configured")
                .in_file(sources.path(FileId(0)))
                .help("add a section such as `[service.web]` with a `command`"),
        );
    }
    let services = drafts.into_iter();
    let services = services.map(|draft| (draft.spec.name.clone(), Arc::new(draft.spec))).collect();
    let config = Config { services, ..settings };
    let diagnostics = faults.into_diagnostics();
    ((!diagnostics.has_errors()).then_some(config), diagnostics)
}

/// The daemon's own settings, without services; where its listeners stand; and `[defaults]`.
fn read_settings<'a>(
    sections: &mut Sections<'a>,
    context: &Context,
    faults: &mut Faults<'_>,
) -> (Config, Listeners, Table<'a>) {
    let mut taken = |name| sections.settings.remove(name);
    let mut own = |name| taken(name).unwrap_or_else(|| no_section(name));
    let (mut daemon, mut console) = (own("daemon"), own("console"));
    let (mut journal, mut api) = (own("journal"), own("api"));
    let (mut health, defaults) = (own("health"), own("defaults"));
    let (mut mail, mut supervisord) = (taken("mail"), taken("supervisord"));
    let places = Listeners {
        console: console.has_own("listen").then(|| console.value_spot("listen")),
        api_tcp: api.has_own("tcp").then(|| api.key_spot("tcp")),
        health_http: health.has_own("http").then(|| health.value_spot("http")),
        health_agent: health.has_own("agent").then(|| health.value_spot("agent")),
        supervisord_tcp: supervisord.as_ref().map(|table| table.value_spot("tcp")),
        supervisord_unix: supervisord.as_ref().map(|table| table.value_spot("unix")),
    };
    let daemon = read_daemon(&mut daemon, context, faults);
    let mail = mail.as_mut().and_then(|table| mail::read(table, &daemon.node, faults));
    let supervisord = supervisord.as_mut().map(|table| supervisord::read(table, faults));
    let config = Config {
        daemon,
        console: read_console(&mut console, faults),
        journal: read_journal(&mut journal, faults),
        api: read_api(&mut api, &sections.token_lists, faults),
        health: read_health(&mut health, faults),
        mail,
        supervisord,
        hooks: hook::read_all(&sections.hooks, faults),
        services: BTreeMap::new(),
    };
    (config, places, defaults)
}

fn no_section(name: &str) -> Table<'static> {
    Table::empty(format!("[{name}]"), Spot { file: FileId(0), start: 0, end: 0 })
}

fn collect<'a>(
    tables: &'a [(FileId, Spanned<DeTable<'a>>)],
    faults: &mut Faults<'_>,
) -> Sections<'a> {
    let mut sections = Sections {
        settings: BTreeMap::new(),
        token_lists: Vec::new(),
        hooks: Vec::new(),
        services: Vec::new(),
    };
    for (file, table) in tables {
        for (name, entry) in entries_of(*file, table.get_ref()) {
            match SECTIONS.iter().copied().find(|known| *known == name) {
                Some(section) => collect_section(section, entry, &mut sections, faults),
                None => unknown_section(name, entry, faults),
            }
        }
    }
    sections
}

fn collect_section<'a>(
    section: &'static str,
    entry: Entry<'a>,
    sections: &mut Sections<'a>,
    faults: &mut Faults<'_>,
) {
    let file = entry.key.file;
    let Some(table) = entry.node.value.as_table() else {
        let example = match section {
            "service" => "`[service.web]`, then `command = \"…\"`".to_owned(),
            "hook" => "`[hook.pager]`, then `command = \"…\"`".to_owned(),
            section => format!("`[{section}]`"),
        };
        wrong_type(entry.node, "a section", &example, faults);
        return;
    };
    if section == "service" {
        sections.services.extend(entries_of(file, table));
        return;
    }
    if section == "hook" {
        sections.hooks.extend(entries_of(file, table));
        return;
    }
    if let Some(earlier) = sections.settings.get_mut(section) {
        // Tokens add up: a deployment may drop a file of its own with one.
        let rest: BTreeMap<&str, Entry<'a>> = entries_of(file, table).collect();
        sections.token_lists.extend(token_list(section, &rest));
        earlier.merge(rest, section == "api", faults);
        return;
    }
    let table = Table::new(format!("[{section}]"), entry.key, table);
    sections.token_lists.extend(token_list(section, &table.entries));
    sections.settings.insert(section, table);
}

fn token_list<'a>(section: &str, entries: &BTreeMap<&str, Entry<'a>>) -> Option<Node<'a>> {
    let tokens = entries.get("token").filter(|_| section == "api");
    tokens.map(|entry| entry.node)
}

fn unknown_section(name: &str, entry: Entry<'_>, faults: &mut Faults<'_>) {
    let help = did_you_mean(name, SECTIONS).unwrap_or_else(|| {
        if entry.node.value.as_table().is_some() {
            format!("for a service write `[service.{name}]`; known: {}", SECTIONS.join(", "))
        } else {
            format!("keys belong into a section: {}", SECTIONS.join(", "))
        }
    });
    faults.push(
        Fault::error("unknown-section", format!("{} is no section", quoted(name)))
            .at(entry.key, "unknown section")
            .help(help),
    );
}

/// Reads `[defaults]` by itself, so that its faults show even where no service uses it.
fn check_defaults(defaults: &mut Table<'_>, faults: &mut Faults<'_>) {
    for key in ["command", "description"] {
        let Some(entry) = defaults.entries.remove(key) else { continue };
        faults.push(
            Fault::error("not-a-default", format!("`{key}` can't be in [defaults]"))
                .at(entry.key, "belongs to one service")
                .help("move it to the service's own section"),
        );
    }
    defaults.is_partial = true;
    if let Ok(name) = "defaults".parse::<ServiceName>() {
        read_service(name, defaults, faults);
    }
}

/// The drafts of all services, and the names of sections that are none.
fn read_services<'a>(
    services: &[(&'a str, Entry<'a>)],
    defaults: &Table<'a>,
    faults: &mut Faults<'_>,
) -> (Vec<Draft>, BTreeSet<String>) {
    let mut drafts: Vec<Draft> = Vec::with_capacity(services.len().min(SERVICES_MAX));
    let mut unreadable = BTreeSet::new();
    let mut first: BTreeMap<&str, Spot> = BTreeMap::new();
    if let Some((_, entry)) = services.get(SERVICES_MAX) {
        faults.push(
            Fault::error(
                "too-many-services",
                format!("{} services are configured", services.len()),
            )
            .at(entry.key, format!("one more than {SERVICES_MAX}"))
            .help("use `instances` for services that differ only in a number"),
        );
    }
    for (text, entry) in services.iter().take(SERVICES_MAX) {
        if let Some(earlier) = first.get(text) {
            faults.push(
                Fault::error(
                    "duplicate-service",
                    format!("service {} is defined twice", quoted(text)),
                )
                .at(entry.key, "defined here again")
                .also(*earlier, "the first one")
                .help("give one of them another name, or join the two sections"),
            );
            continue;
        }
        first.insert(text, entry.key);
        let (Some(name), Some(table)) =
            (service_name(text, *entry, faults), table_of(*entry, faults))
        else {
            unreadable.insert((*text).to_owned());
            continue;
        };
        let mut table = Table::new(format!("service `{name}`"), entry.key, table);
        table.fallback = Some(defaults);
        drafts.push(read_service(name, &mut table, faults));
    }
    (drafts, unreadable)
}

fn service_name(text: &str, entry: Entry<'_>, faults: &mut Faults<'_>) -> Option<ServiceName> {
    let error: base::NameError = match text.parse() {
        Ok(name) => return Some(name),
        Err(error) => error,
    };
    faults.push(
        Fault::error("bad-name", format!("{} can't be the name of a service", quoted(text)))
            .at(entry.key, error.to_string())
            .help("choose a name such as `web`, `db-1` or `mail.out`"),
    );
    None
}

fn table_of<'a>(entry: Entry<'a>, faults: &mut Faults<'_>) -> Option<&'a DeTable<'a>> {
    let table = entry.node.value.as_table();
    if table.is_none() {
        let name = entry.node.name;
        faults.push(
            Fault::error("wrong-type", format!("{} is no key of [service]", quoted(name)))
                .at(entry.node.spot, "not a section")
                .help(format!("a service has a section of its own: `[service.{name}]`")),
        );
    }
    table
}
