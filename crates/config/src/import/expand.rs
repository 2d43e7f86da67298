//! `%(name)s` in values: what supervisord fills in.
//!
//! Why pieces: the number of a process is not known here where several run from one section; it
//! becomes a template of ours, which depends on what stands around it.
//! Source: supervisord's manual, "Environment Variables" and "[program:x] Section Values"; Python's
//! library reference, "printf-style String Formatting".

/// Digits that a number may be padded to; more is no number of a process.
const WIDTH_MAX: usize = 9;

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Filling {
    Text(String),
    Number(u32),
    /// The number of the process, which differs between the instances.
    ProcessNumber,
}

/// A part of an expanded value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Text(String),
    /// The number of the process, padded with zeros to so many digits.
    ProcessNumber {
        digits: usize,
    },
}

/// Expands a value. The error is a half sentence for people.
pub(crate) fn expand(
    value: &str,
    fill: &mut dyn FnMut(&str) -> Option<Filling>,
) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (name, format, after) = field(after)?;
        let filling = fill(name).ok_or_else(|| unknown(name))?;
        match formatted(filling, format, name)? {
            Piece::Text(filled) => text.push_str(&filled),
            number @ Piece::ProcessNumber { .. } => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(number);
            }
        }
        rest = after;
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

fn unknown(name: &str) -> String {
    match name.strip_prefix("ENV_") {
        Some(variable) => format!("{variable} is not set where this is imported"),
        None => format!("`%({name})s` stands for nothing"),
    }
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Format {
    zeros: bool,
    left: bool,
    width: usize,
    is_number: bool,
}

/// Takes `(name)02d` apart; the rest follows.
fn field(text: &str) -> Result<(&str, Format, &str), String> {
    let wrong = || "has a `%` that begins no `%(name)s`; a plain one is written `%%`".to_owned();
    let (name, rest) =
        text.strip_prefix('(').and_then(|text| text.split_once(')')).ok_or_else(wrong)?;
    let flags = rest.len() - rest.trim_start_matches(['0', '-', '+', ' ', '#']).len();
    let (flags, rest) = rest.split_at(flags);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (width, rest) = rest.split_at(digits);
    let width = match width {
        "" => Some(0),
        width => width.parse().ok().filter(|width| *width <= WIDTH_MAX),
    };
    let width = width.ok_or_else(|| format!("pads `%({name})…` too far"))?;
    let conversion = rest.chars().next().ok_or_else(wrong)?;
    let is_number = match conversion {
        's' => false,
        'd' | 'i' | 'u' => true,
        _ => return Err(format!("formats `%({name})…` in an unknown way")),
    };
    let zeros = flags.contains('0') && is_number;
    let format = Format { zeros, left: flags.contains('-'), width, is_number };
    Ok((name, format, &rest[conversion.len_utf8()..]))
}

fn formatted(filling: Filling, format: Format, name: &str) -> Result<Piece, String> {
    let Format { zeros, left, width, is_number } = format;
    let text = match filling {
        Filling::ProcessNumber if width <= 1 || (zeros && !left) => {
            let digits = if zeros && !left { width.max(1) } else { 1 };
            return Ok(Piece::ProcessNumber { digits });
        }
        Filling::ProcessNumber => {
            return Err("pads the number of the process with blanks".to_owned());
        }
        Filling::Text(_) if is_number => return Err(format!("takes `%({name})…` for a number")),
        Filling::Text(text) => text,
        Filling::Number(number) => number.to_string(),
    };
    let missing = width.saturating_sub(text.chars().count());
    let fill = if zeros && !left { "0" } else { " " }.repeat(missing);
    Ok(Piece::Text(if left { text + &fill } else { fill + &text }))
}

/// A value without process numbers, as one text.
pub(crate) fn plain(pieces: &[Piece]) -> Option<String> {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::ProcessNumber { .. } => None,
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(name: &str) -> Option<Filling> {
        match name {
            "program_name" => Some(Filling::Text("web".to_owned())),
            "numprocs" => Some(Filling::Number(4)),
            "process_num" => Some(Filling::ProcessNumber),
            _ => None,
        }
    }

    #[test]
    fn values_are_filled_as_python_does_it() {
        for (value, expect) in [
            ("plain", "plain"),
            ("100%% of %(program_name)s", "100% of web"),
            ("%(numprocs)d/%(numprocs)03d/%(numprocs)s/%(numprocs)-3d.", "4/004/4/4  ."),
            ("%(program_name)5s|%(program_name)-5s|", "  web|web  |"),
            ("%(program_name)05s", "  web"),
        ] {
            assert_eq!(plain(&expand(value, &mut fill).unwrap()).as_deref(), Some(expect));
        }
        let number = |digits| Piece::ProcessNumber { digits };
        let text = |text: &str| Piece::Text(text.to_owned());
        for (value, digits) in
            [("a%(process_num)02db", 2), ("a%(process_num)sb", 1), ("a%(process_num)db", 1)]
        {
            let pieces = expand(value, &mut fill).unwrap();
            assert_eq!(pieces, [text("a"), number(digits), text("b")], "{value}");
            assert_eq!(plain(&pieces), None);
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for value in [
            "50%",
            "50% of",
            "%s",
            "%(x)s",
            "%(program_name)",
            "%(program_name",
            "%(program_name)d",
            "%(numprocs)99999999999999999999d",
            "%(process_num)3s",
            "%(numprocs)é",
            "%(",
        ] {
            assert!(expand(value, &mut fill).is_err(), "{value}");
        }
    }
}
