//! A command line as keepalived splits it: words by blanks, quotes around blanks, escapes as in C; no shell.

/// The words of `text`.
///
/// # Errors
/// A sentence: a quote without its partner, or nothing at all.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start();
    }
    if words.is_empty() { Err("is empty; name a program by its absolute path".into()) } else { Ok(words) }
}

/// The first word, and what follows it.
fn word(mut rest: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\\', _) => {
                let (meant, length) = escaped(rest);
                word.extend(meant);
                rest = &rest[length..];
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => return Ok((word, rest)),
            (c, _) => word.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("opens a quote ({open}) and does not close it")),
        None => Ok((word, rest)),
    }
}

/// What the text behind a backslash means, and how many bytes of it; `None` at its end, and for a zero byte, which no
/// argument can hold.
pub(in crate::config) fn escaped(rest: &str) -> (Option<char>, usize) {
    let number = |start: usize, radix: u32, most: usize| {
        let digits = rest[start..].chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let value = u32::from_str_radix(&rest[start..start + digits], radix).unwrap_or(0);
        (u8::try_from(value).ok().filter(|byte| *byte != 0).map(char::from), start + digits)
    };
    let Some(c) = rest.chars().next() else { return (None, 0) };
    let next = rest[c.len_utf8()..].chars().next();
    let meant = match c {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' if next.is_some_and(|next| next.is_ascii_hexdigit()) => return number(1, 16, 2),
        'c' => match next.filter(|next| next.is_ascii() && *next as u8 & 0x1f != 0) {
            Some(next) => return (Some(char::from(next as u8 & 0x1f)), 2),
            None => 'c',
        },
        '0'..='7' => return number(0, 8, 3),
        other => other,
    };
    (Some(meant), c.len_utf8())
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
