//! `token`: a new bearer token for the remote API, and what goes into the configuration.
//!
//! Invariant: the token has 256 random bits, is printed once and stored nowhere; the
//! configuration keeps only its SHA-256, which is enough to check it and useless to a thief.

use super::args::{RoleArg, TokenArgs};
use super::failure::{Code, Failure};
use super::output::{Output, Tone};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// `holdfast token`.
pub(crate) fn run(output: &Output, args: &TokenArgs) -> Result<Code, Failure> {
    let printable = |c: char| !c.is_control() && c != '"' && c != '\\';
    if args.name.is_empty() || !args.name.chars().all(printable) {
        return Err(Failure::usage("the name of a token can't be empty or hold quotes")
            .help("write something like --name deploy"));
    }
    let mut bits = [0; 32];
    SystemRandom::new()
        .fill(&mut bits)
        .map_err(|_| Failure::no("the kernel gives no random numbers"))?;
    let token = format!("hf_{}", hex(&bits));
    let sha256 = hex(digest(&SHA256, token.as_bytes()).as_ref());
    let role = match args.role {
        RoleArg::Read => "read",
        RoleArg::Act => "act",
    };
    let toml = format!(
        "[[api.token]]\nname = \"{}\"\nsha256 = \"{sha256}\"\nrole = \"{role}\"",
        args.name
    );
    if output.json {
        output.json(&serde_json::json!({ "token": token, "sha256": sha256, "toml": toml }))?;
        return Ok(Code::Done);
    }
    let heading = |text| output.paint.tone(Tone::Strong, text);
    output.line(&heading("The token; it is shown this once only:"))?;
    output.line(&format!("\n  {token}\n"))?;
    output.line(&heading("For the configuration:"))?;
    output.line(&format!("\n{toml}\n"))?;
    output.line(&heading("To use it:"))?;
    output.line("\n  curl -H 'Authorization: Bearer TOKEN' https://HOST:7491/api/v1/status")?;
    Ok(Code::Done)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}
