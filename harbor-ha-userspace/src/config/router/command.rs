//! A command line as keepalived splits it: words by blanks, quotes around blanks, escapes as in C; no shell.

use std::iter::Peekable;
use std::str::Chars;

/// The words of `text`.
///
/// # Errors
/// A sentence: a quote without its partner, or nothing at all.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            break;
        }
        words.push(word(&mut chars)?);
    }
    if words.is_empty() { Err("is empty; name a program by its absolute path".into()) } else { Ok(words) }
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(escaped(chars)),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => return Ok(word),
            (c, _) => word.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("opens a quote ({open}) and does not close it")),
        None => Ok(word),
    }
}

/// What follows a backslash; `None` at the end of the text, and for a zero byte, which no argument can hold.
pub(in crate::config) fn escaped(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let number = |chars: &mut Peekable<Chars<'_>>, radix: u32, most: usize, start: u32| {
        let mut value = start;
        for _ in 0..most {
            let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = value * radix + digit;
            chars.next();
        }
        u8::try_from(value).ok().filter(|byte| *byte != 0).map(char::from)
    };
    Some(match chars.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' if chars.peek().is_some_and(char::is_ascii_hexdigit) => return number(chars, 16, 2, 0),
        'c' if chars.peek().is_some_and(char::is_ascii) => return chars.next().map(|c| char::from(c as u8 & 0x1f)),
        digit @ '0'..='7' => return number(chars, 8, 2, digit as u32 - '0' as u32),
        other => other,
    })
}

/// The shortest text that [`split`] takes for `words`.
pub fn join(words: &[String]) -> String {
    let quoted = |word: &String| {
        if !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')) {
            return word.clone();
        }
        let escape = |c: char| if matches!(c, '\'' | '\\') { vec!['\\', c] } else { vec![c] };
        format!("'{}'", word.chars().flat_map(escape).collect::<String>())
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_the_manual_of_keepalived_says() {
        assert_eq!(split("/bin/x MASTER").unwrap(), ["/bin/x", "MASTER"]);
        assert_eq!(
            split("/a/notify.sh ' spaces\\x20file ' '\\\"s p a c e \\\"' SG1.low").unwrap(),
            ["/a/notify.sh", " spaces file ", "\"s p a c e \"", "SG1.low"]
        );
        assert_eq!(split("ab\"cd ef\"gh").unwrap(), ["abcd efgh"]);
        assert_eq!(split("\\101\\x4a \\n").unwrap(), ["AJ", "\n"]);
    }

    #[test]
    fn a_command_that_is_none_is_refused() {
        assert!(split("  ").unwrap_err().contains("is empty"));
        assert!(split("/bin/x 'a").unwrap_err().contains("does not close"));
    }

    #[test]
    fn what_is_joined_is_split_into_the_same_words() {
        let words = ["/bin/x", "", "a b", "it's", "\"q\"", "back\\slash"].map(String::from).to_vec();
        assert_eq!(split(&join(&words)).unwrap(), words);
    }
}
