//! The daemon's sections for those who ask from outside, and for those who are told.

use super::{Text, path};
use crate::settings::{Config, HookSettings, MailSecurity, MailSettings, SupervisordSettings};
use base::format_duration;
use supervisor::Severity;

/// `[health]`, and `[mail]`, `[supervisord]` and hooks where they are configured.
pub(super) fn show(text: &mut Text, config: &Config) {
    let address =
        |at: Option<std::net::SocketAddr>| at.map_or("off".to_owned(), |at| at.to_string());
    text.section("health");
    text.put("http", address(config.health.http));
    text.put("agent", address(config.health.agent));
    if let Some(mail) = &config.mail {
        show_mail(text, mail);
    }
    if let Some(face) = &config.supervisord {
        show_supervisord(text, face);
    }
    for (name, hook) in &config.hooks {
        show_hook(text, name.as_str(), hook);
    }
}

fn show_hook(text: &mut Text, name: &str, hook: &HookSettings) {
    // A dot in a bare header would make a table of it.
    let quoted = if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
    text.section(&format!("hook.{quoted}"));
    text.put("command", hook.argv.clone());
    text.put("events", hook.events.clone());
    text.put("severity", severity(hook.severity));
    if let Some(user) = &hook.user {
        text.put("user", user.as_str());
    }
    text.put("timeout", format_duration(hook.timeout));
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn show_mail(text: &mut Text, mail: &MailSettings) {
    text.section("mail");
    text.put("to", mail.to.clone());
    text.put("from", mail.from.as_str());
    text.put("host", mail.host.as_str());
    text.put("port", i64::from(mail.port));
    let security = match mail.security {
        MailSecurity::None => "none",
        MailSecurity::StartTls => "starttls",
        MailSecurity::Tls => "tls",
    };
    text.put("security", security);
    if let Some(ca) = &mail.ca {
        text.put("ca", path(ca));
    }
    if let Some(user) = &mail.user {
        text.put("user", user.as_str());
    }
    if let Some(file) = &mail.password_file {
        text.put("password_file", path(file));
    }
    text.put("severity", severity(mail.severity));
    text.put("digest", format_duration(mail.digest));
    text.put("queue_max", i64::from(mail.queue_max));
}

fn show_supervisord(text: &mut Text, face: &SupervisordSettings) {
    text.section("supervisord");
    if let Some((at, mode)) = &face.unix {
        text.put("unix", path(at));
        text.put("unix_mode", format!("{mode:03o}"));
    }
    if let Some(address) = face.tcp {
        text.put("tcp", address.to_string());
    }
    if let Some((user, hash)) = &face.login {
        text.put("user", user.as_str());
        text.put("password_sha256", crate::api::hex(hash));
    }
    text.put("identifier", face.identifier.as_str());
}
