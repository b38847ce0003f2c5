//! Go's regular expression syntax, which the built-in trigger's `useRegex` takes, written as the syntax of the `regex` crate.
//!
//! The two descend from one engine but differ in what people do write: to Go `\w`, `\d`, `\s` and `\b` are ASCII, `[` and
//! `&&` inside brackets are plain characters, `{` is one where it begins no count, `\Q…\E` quotes, `a**` is an error.
//! Follows Go's `regexp/syntax` package (its `doc.go`, and `parse.go` with the flags `Perl`). What decides only which of
//! several matches is found is dropped, since a whole name matches or does not: capture groups, laziness, the flag `U`.

use std::fmt::Write as _;

/// Go's limit of a counted repetition.
const MAX_REPEAT: u32 = 1_000;
/// The ASCII classes that Go knows between `[:` and `:]`; Rust's are the same.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Translates a pattern. The error says what is wrong, in Go's words where Go has them.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    Translator { rest: pattern, out: String::with_capacity(pattern.len() * 2), open_groups: 0 }.run()
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    open_groups: usize,
}

impl Translator<'_> {
    fn run(mut self) -> Result<String, String> {
        let mut after_repetition = false;
        while let Some(character) = self.rest.chars().next() {
            let before = self.rest;
            let mut is_repetition = false;
            match character {
                '*' | '+' | '?' => {
                    self.rest = &self.rest[1..];
                    self.out.push(character);
                    is_repetition = true;
                }
                '{' => match count(self.rest) {
                    Some((length, least, most)) => {
                        let text = &self.rest[..length];
                        let is_ordered = most.is_none_or(|most| least <= most);
                        if !is_ordered || least.max(most.unwrap_or_default()) > MAX_REPEAT {
                            return Err(format!("invalid repeat count: {text}"));
                        }
                        self.rest = &self.rest[length..];
                        self.out.push_str(text);
                        is_repetition = true;
                    }
                    None => self.literal(),
                },
                '(' => self.group()?,
                ')' => {
                    self.open_groups = self.open_groups.checked_sub(1).ok_or("unexpected )")?;
                    self.keep();
                }
                '[' => self.class()?,
                '|' | '^' | '$' | '.' => self.keep(),
                '\\' => self.escape()?,
                _ => self.literal(),
            }
            if is_repetition {
                if after_repetition {
                    return Err(format!("invalid nested repetition operator: {before}"));
                }
                // Lazy or not, the same names match.
                self.rest = self.rest.strip_prefix('?').unwrap_or(self.rest);
            }
            after_repetition = is_repetition;
        }
        if self.open_groups > 0 { Err("missing closing )".to_owned()) } else { Ok(self.out) }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    /// Copies a character that means the same to both.
    fn keep(&mut self) {
        let character = self.next();
        self.out.extend(character);
    }

    /// Writes a character that means itself.
    fn literal(&mut self) {
        if let Some(character) = self.next() {
            self.write(character);
        }
    }

    /// Writes a character so that it can mean nothing else, inside brackets and outside.
    fn write(&mut self, character: char) {
        if character.is_ascii_alphanumeric() || !character.is_ascii() {
            self.out.push(character);
        } else {
            write!(self.out, r"\x{{{:X}}}", u32::from(character)).expect("writing to a String does not fail");
        }
    }

    fn group(&mut self) -> Result<(), String> {
        let whole = self.rest;
        self.rest = &self.rest[1..];
        let Some(special) = self.rest.strip_prefix('?') else {
            self.out.push_str("(?:");
            self.open_groups += 1;
            return Ok(());
        };
        if let Some(named) = special.strip_prefix("P<").or_else(|| special.strip_prefix('<')) {
            let (name, rest) = named.split_once('>').ok_or_else(|| format!("invalid named capture: {whole}"))?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(format!("invalid named capture: (?<{name}>"));
            }
            self.rest = rest;
            self.out.push_str("(?:");
            self.open_groups += 1;
            return Ok(());
        }
        self.rest = special;
        self.flags().ok_or_else(|| format!("invalid or unsupported Perl syntax: {whole}"))
    }

    /// What stands after `(?`: flags for the rest of the group, or of a group of their own.
    fn flags(&mut self) -> Option<()> {
        let (mut on, mut off) = (String::new(), String::new());
        let (mut is_off, mut has_flag) = (false, false);
        loop {
            match self.next()? {
                'U' => has_flag = true,
                flag @ ('i' | 'm' | 's') => {
                    has_flag = true;
                    // The last word on a flag counts, and Rust takes but one.
                    on.retain(|other| other != flag);
                    off.retain(|other| other != flag);
                    if is_off { off.push(flag) } else { on.push(flag) }
                }
                '-' if !is_off => (is_off, has_flag) = (true, false),
                end @ (':' | ')') => {
                    if is_off && !has_flag {
                        return None;
                    }
                    let minus = if off.is_empty() { "" } else { "-" };
                    match end {
                        ':' => {
                            self.open_groups += 1;
                            write!(self.out, "(?{on}{minus}{off}:").expect("writing to a String does not fail");
                        }
                        _ if on.is_empty() && off.is_empty() => {}
                        _ => write!(self.out, "(?{on}{minus}{off})").expect("writing to a String does not fail"),
                    }
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        if let Some(quoted) = self.rest.strip_prefix(r"\Q") {
            let (text, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            for character in text.chars() {
                self.write(character);
            }
            self.rest = rest;
            return Ok(());
        }
        let same = match self.rest.chars().nth(1) {
            Some('A') => r"\A",
            Some('z') => r"\z",
            Some('b') => r"(?-u:\b)",
            Some('B') => r"(?-u:\B)",
            _ => {
                if !self.named_class(false)? {
                    let character = self.escaped()?;
                    self.write(character);
                }
                return Ok(());
            }
        };
        self.out.push_str(same);
        self.rest = &self.rest[2..];
        Ok(())
    }

    /// `\d` and its like, or `\p{…}`; false if neither stands here.
    fn named_class(&mut self, is_in_brackets: bool) -> Result<bool, String> {
        let mut characters = self.rest.strip_prefix('\\').unwrap_or_default().chars();
        let letter = characters.next().unwrap_or_default();
        let members = match letter.to_ascii_lowercase() {
            'd' => "0-9",
            's' => r"\t\n\x0C\r ",
            'w' => "0-9A-Za-z_",
            'p' => {
                self.rest = characters.as_str();
                self.unicode_class(letter == 'P')?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.rest = characters.as_str();
        match (letter.is_ascii_uppercase(), is_in_brackets) {
            (true, _) => write!(self.out, "[^{members}]"),
            (false, true) => write!(self.out, "{members}"),
            (false, false) => write!(self.out, "[{members}]"),
        }
        .expect("writing to a String does not fail");
        Ok(true)
    }

    /// What stands after `\p` or `\P`.
    fn unicode_class(&mut self, mut is_negated: bool) -> Result<(), String> {
        let invalid = |name: &str| format!(r"invalid character class range: \p{{{name}}}");
        let (name, rest) = if let Some(inner) = self.rest.strip_prefix('{') {
            inner.split_once('}').ok_or_else(|| invalid(inner))?
        } else {
            self.rest.split_at(self.rest.chars().next().map_or(0, char::len_utf8))
        };
        let bare = match name.strip_prefix('^') {
            Some(bare) => {
                is_negated = !is_negated;
                bare
            }
            None => name,
        };
        // Rust knows more, such as `\p{age=3.0}`.
        if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            return Err(invalid(name));
        }
        self.rest = rest;
        let letter = if is_negated { 'P' } else { 'p' };
        write!(self.out, r"\{letter}{{{bare}}}").expect("writing to a String does not fail");
        Ok(())
    }

    /// The character that an escape means.
    fn escaped(&mut self) -> Result<char, String> {
        let whole = self.rest;
        self.rest = self.rest.strip_prefix('\\').unwrap_or(self.rest);
        let invalid = || {
            let shown: String = whole.chars().take(2).collect();
            format!("invalid escape sequence: {shown}")
        };
        let escaped = match self.next().ok_or("trailing backslash at end of expression")? {
            'a' => '\x07',
            'f' => '\x0C',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0B',
            'x' => self.hexadecimal().ok_or_else(invalid)?,
            // One digit alone would be a back-reference.
            first @ '0'..='7' if first == '0' || self.rest.starts_with(|next: char| next.is_digit(8)) => {
                let more = self.rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let (digits, rest) = self.rest.split_at(more);
                self.rest = rest;
                let number = u32::from_str_radix(&format!("{first}{digits}"), 8).ok().and_then(char::from_u32);
                number.ok_or_else(invalid)?
            }
            mark if mark.is_ascii() && !mark.is_ascii_alphanumeric() => mark,
            _ => return Err(invalid()),
        };
        Ok(escaped)
    }

    /// What stands after `\x`.
    fn hexadecimal(&mut self) -> Option<char> {
        let (digits, rest) = match self.rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => self.rest.split_at_checked(2)?,
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = rest;
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest;
        let missing = || format!("missing closing ]: {whole}");
        self.rest = &self.rest[1..];
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            if self.rest.starts_with(']') && !is_first {
                self.keep();
                return Ok(());
            }
            is_first = false;
            if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("invalid character class range: [:{name}:]"));
                }
                write!(self.out, "[:{name}:]").expect("writing to a String does not fail");
                self.rest = rest;
                continue;
            }
            if self.named_class(true)? {
                continue;
            }
            let range = self.rest;
            let low = self.class_character().ok_or_else(missing)??;
            self.write(low);
            if self.rest.starts_with('-') && self.rest.len() >= 2 && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                let high = self.class_character().ok_or_else(missing)??;
                if high < low {
                    let shown = &range[..range.len() - self.rest.len()];
                    return Err(format!("invalid character class range: {shown}"));
                }
                self.out.push('-');
                self.write(high);
            }
        }
    }

    fn class_character(&mut self) -> Option<Result<char, String>> {
        if self.rest.starts_with('\\') { Some(self.escaped()) } else { self.next().map(Ok) }
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning: its length, n, and m if it has one. Anything else is plain text to Go.
fn count(text: &str) -> Option<(usize, u32, Option<u32>)> {
    let (inner, _) = text.strip_prefix('{')?.split_once('}')?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let has_leading_zero = digits.len() > 1 && digits.starts_with('0');
        // Too large for a number is too large for the limit.
        (is_number && !has_leading_zero).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let (least, most) = match inner.split_once(',') {
        None => {
            let exactly = number(inner)?;
            (exactly, Some(exactly))
        }
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((inner.len() + 2, least, most))
}

#[cfg(test)]
mod tests;
