//! From lines to statements and blocks.

use super::source::Line;
use super::verdict::{Kind, Ledger, Place};
use crate::config::router::command::escaped;

/// A statement: words, and a block if there is one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) words: Vec<Word>,
    pub(super) block: Option<Vec<Node>>,
}

/// A word, and what it was before its escapes were read: commands are split once more, and by then they must be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) raw: String,
}

impl Node {
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    /// The word at a place behind the keyword, from 1.
    pub(super) fn word(&self, n: usize) -> Option<&str> {
        self.words.get(n).map(|word| word.text.as_str())
    }

    pub(super) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The last statement of that keyword in the block: keepalived lets later ones win.
    pub(super) fn last(&self, keyword: &str) -> Option<&Node> {
        self.children().iter().rev().find(|child| child.keyword() == keyword)
    }

    pub(super) fn has(&self, keyword: &str) -> bool {
        self.last(keyword).is_some()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word(Word),
}

/// Deeper blocks are no keepalived's.
const DEEPEST: usize = 16;

/// The statements of the top.
pub(super) fn grow(lines: &[Line], ledger: &mut Ledger) -> Vec<Node> {
    let mut root: Vec<Node> = Vec::new();
    // Blocks that are open, outermost first.
    let mut open: Vec<Node> = Vec::new();
    let mut too_deep = 0;
    for Line { place, text } in lines {
        let mut words: Vec<Word> = Vec::new();
        let mut any = false;
        for token in tokens(text) {
            match token {
                Token::Word(word) => {
                    any = true;
                    words.push(word);
                }
                Token::Open => {
                    let node = match words.is_empty() {
                        false => Some(Node { place: *place, words: std::mem::take(&mut words), block: None }),
                        // On a line of its own: of the statement before.
                        true => list(&mut root, &mut open).pop_if(|last| last.block.is_none()),
                    };
                    match node {
                        Some(node) if open.len() < DEEPEST => {
                            ledger.brace(*place, node.place);
                            open.push(Node { block: Some(Vec::new()), ..node });
                        }
                        Some(node) => {
                            too_deep += 1;
                            ledger.note(
                                node.place,
                                node.keyword(),
                                Kind::NotSupported,
                                "blocks within blocks, too deep",
                            );
                            ledger.brace(*place, node.place);
                        }
                        None => {
                            too_deep += 1;
                            ledger.note(*place, "{", Kind::NotSupported, "opens a block that has no name");
                        }
                    }
                }
                Token::Close => {
                    if !words.is_empty() {
                        let words = std::mem::take(&mut words);
                        list(&mut root, &mut open).push(Node { place: *place, words, block: None });
                    }
                    if too_deep > 0 {
                        too_deep -= 1;
                        ledger.brace(*place, *place);
                    } else if let Some(node) = open.pop() {
                        ledger.brace(*place, node.place);
                        list(&mut root, &mut open).push(node);
                    } else {
                        ledger.note(*place, "}", Kind::NotSupported, "closes no block");
                    }
                }
            }
        }
        if !words.is_empty() {
            list(&mut root, &mut open).push(Node { place: *place, words, block: None });
        } else if !any {
            // Quotes around nothing leave no word.
            ledger.brace(*place, *place);
        }
    }
    while let Some(node) = open.pop() {
        ledger.trap(
            node.place,
            node.keyword(),
            Kind::Changed,
            "its block is not closed; taken as if it ended with the file",
        );
        list(&mut root, &mut open).push(node);
    }
    root
}

fn list<'a>(root: &'a mut Vec<Node>, open: &'a mut [Node]) -> &'a mut Vec<Node> {
    match open.last_mut().and_then(|node| node.block.as_mut()) {
        Some(block) => block,
        None => root,
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut word, mut raw, mut started) = (String::new(), String::new(), false);
    let mut quote = None;
    // Within `${NAME}` that nobody defined.
    let mut named = false;
    let mut rest = text;
    let end = |word: &mut String, raw: &mut String, started: &mut bool, tokens: &mut Vec<Token>| {
        if std::mem::take(started) {
            tokens.push(Token::Word(Word { text: std::mem::take(word), raw: std::mem::take(raw) }));
        }
    };
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\\', _) => {
                started = true;
                let (meant, length) = escaped(rest);
                word.extend(meant);
                raw.push('\\');
                raw.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            (c, Some(open)) if c == open => quote = None,
            ('"', None) => {
                started = true;
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => end(&mut word, &mut raw, &mut started, &mut tokens),
            ('{', None) if !word.ends_with('$') => {
                end(&mut word, &mut raw, &mut started, &mut tokens);
                tokens.push(Token::Open);
            }
            ('}', None) if !named => {
                end(&mut word, &mut raw, &mut started, &mut tokens);
                tokens.push(Token::Close);
            }
            (c, quoted) => {
                if quoted.is_none() {
                    named = match c {
                        '{' => true,
                        '}' => false,
                        _ => named,
                    };
                }
                started = true;
                word.push(c);
                raw.push(c);
            }
        }
    }
    end(&mut word, &mut raw, &mut started, &mut tokens);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |token: Token| match token {
            Token::Open => "{".to_owned(),
            Token::Close => "}".to_owned(),
            Token::Word(word) => format!("<{}>", word.text),
        };
        tokens(text).into_iter().map(show).collect()
    }

    #[test]
    fn a_line_is_split_at_blanks_and_braces_and_not_within_quotes() {
        assert_eq!(shown("a  b\tc"), ["<a>", "<b>", "<c>"]);
        assert_eq!(shown("track { eth0 }"), ["<track>", "{", "<eth0>", "}"]);
        assert_eq!(shown("VI_1{"), ["<VI_1>", "{"]);
        assert_eq!(shown("x \"a { b\" ab\"c d\"e"), ["<x>", "<a { b>", "<abc de>"]);
        assert_eq!(shown("x ${UNKNOWN} $"), ["<x>", "<${UNKNOWN}>", "<$>"]);
        assert_eq!(shown("x \"\" \"open"), ["<x>", "<>", "<open>"]);
    }

    #[test]
    fn the_raw_word_keeps_its_escapes() {
        let [Token::Word(word)] = &tokens(r#""/x 'a \x41' \"q\"""#)[..] else { panic!() };
        assert_eq!((word.text.as_str(), word.raw.as_str()), (r#"/x 'a A' "q""#, r#"/x 'a \x41' \"q\""#));
    }
}
