//! From lines to statements and blocks.

use std::ops::Range;

use super::source::Line;
use super::verdict::{Kind, Ledger, Place};
use crate::config::router::command;

/// A statement: words, and a block if there is one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) words: Vec<String>,
    /// The words as they stand in the file: those of a command are told apart by other rules.
    pub(super) raw: String,
    pub(super) block: Option<Vec<Node>>,
}

impl Node {
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at a place behind the keyword, from 1.
    pub(super) fn word(&self, n: usize) -> Option<&str> {
        self.words.get(n).map(String::as_str)
    }

    /// The words of a statement that names a command; the command is the second one, and still to be split.
    ///
    /// # Errors
    /// A sentence: a quote without its partner.
    pub(super) fn words_of_command(&self) -> Result<Vec<String>, String> {
        command::split(&self.raw)
    }

    pub(super) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The last statement of that keyword in the block: keepalived lets later ones win.
    pub(super) fn last(&self, keyword: &str) -> Option<&Node> {
        self.children().iter().rev().find(|child| child.keyword() == keyword)
    }

    /// The first statement of that keyword: there are some of which keepalived keeps that.
    pub(super) fn first(&self, keyword: &str) -> Option<&Node> {
        self.children().iter().find(|child| child.keyword() == keyword)
    }

    pub(super) fn has(&self, keyword: &str) -> bool {
        self.last(keyword).is_some()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word(String),
}

/// The words of one statement so far, and where in its line they stand.
#[derive(Default)]
struct Words {
    texts: Vec<String>,
    span: Range<usize>,
}

impl Words {
    fn push(&mut self, text: String, span: Range<usize>) {
        if self.texts.is_empty() {
            self.span.start = span.start;
        }
        self.span.end = span.end;
        self.texts.push(text);
    }

    /// Ends the statement; `None`: there is none.
    fn take(&mut self, place: Place, line: &str) -> Option<Node> {
        let Self { texts: words, span } = std::mem::take(self);
        let raw = line[span].to_owned();
        (!words.is_empty()).then_some(Node { place, words, raw, block: None })
    }
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
        if text.is_empty() {
            open.iter().for_each(|block| ledger.hole(block.place, *place));
            continue;
        }
        let mut words = Words::default();
        let mut any = false;
        let (tokens, closed) = tokens(text);
        for (token, span) in tokens {
            match token {
                Token::Word(word) => {
                    any = true;
                    words.push(word, span);
                }
                Token::Open => {
                    let node = words
                        .take(*place, text)
                        // On a line of its own: of the statement before.
                        .or_else(|| list(&mut root, &mut open).pop_if(|last| last.block.is_none()));
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
                    list(&mut root, &mut open).extend(words.take(*place, text));
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
        if !closed {
            // For a command, which reads its quotes otherwise.
            words.span.end = text.len();
        }
        let last = words.take(*place, text);
        if !closed && last.as_ref().is_none_or(|node| !names_command(node.keyword())) {
            let keyword = last.as_ref().map_or("\"", Node::keyword).to_owned();
            let why = "opens a quote (\") that nothing closes; keepalived drops what follows it, and so does this";
            ledger.trap(*place, &keyword, Kind::NotSupported, why);
            if open.last().is_some_and(|block| block.keyword() == "unicast_peer") {
                open.iter().for_each(|block| ledger.hole(block.place, *place));
            }
        } else if last.is_none() && !any {
            // Quotes around nothing leave no word.
            ledger.brace(*place, *place);
        }
        list(&mut root, &mut open).extend(last);
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

/// Whether what follows a keyword is a command, in which `'` quotes as well and `\` escapes.
fn names_command(keyword: &str) -> bool {
    keyword == "script"
        || keyword.ends_with("fifo_script")
        || (keyword.starts_with("notify") && !keyword.ends_with("fifo"))
}

/// The tokens of a line with their places in it, and whether its quotes are closed.
///
/// A quote (`"`) ends the word before it and begins one of its own, its partner ends that; neither has another meaning
/// behind a backslash. So it is with keepalived, and a password may hold any of them.
fn tokens(text: &str) -> (Vec<(Token, Range<usize>)>, bool) {
    let mut tokens = Vec::new();
    let mut word: Option<usize> = None;
    let mut quote: Option<usize> = None;
    // Within `${NAME}` that nobody defined.
    let mut named = false;
    for (at, c) in text.char_indices() {
        let end = |word: &mut Option<usize>, tokens: &mut Vec<_>| {
            if let Some(start) = word.take() {
                tokens.push((Token::Word(text[start..at].to_owned()), start..at));
            }
        };
        match (c, quote) {
            ('"', Some(start)) => {
                quote = None;
                tokens.push((Token::Word(text[start + 1..at].to_owned()), start..at + 1));
            }
            (_, Some(_)) => {}
            ('"', None) => {
                end(&mut word, &mut tokens);
                quote = Some(at);
            }
            (c, None) if c.is_whitespace() => end(&mut word, &mut tokens),
            ('{', None) if !text[..at].ends_with('$') => {
                end(&mut word, &mut tokens);
                tokens.push((Token::Open, at..at + 1));
            }
            ('}', None) if !named => {
                end(&mut word, &mut tokens);
                tokens.push((Token::Close, at..at + 1));
            }
            (c, None) => {
                named = match c {
                    '{' => true,
                    '}' => false,
                    _ => named,
                };
                word.get_or_insert(at);
            }
        }
    }
    if let Some(start) = word {
        tokens.push((Token::Word(text[start..].to_owned()), start..text.len()));
    }
    (tokens, quote.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |(token, _)| match token {
            Token::Open => "{".to_owned(),
            Token::Close => "}".to_owned(),
            Token::Word(word) => format!("<{word}>"),
        };
        tokens(text).0.into_iter().map(show).collect()
    }

    #[test]
    fn a_line_is_split_at_blanks_and_braces_and_not_within_quotes() {
        assert_eq!(shown("a  b\tc"), ["<a>", "<b>", "<c>"]);
        assert_eq!(shown("track { eth0 }"), ["<track>", "{", "<eth0>", "}"]);
        assert_eq!(shown("VI_1{"), ["<VI_1>", "{"]);
        assert_eq!(shown("x \"a { b\" ab\"c d\"e"), ["<x>", "<a { b>", "<ab>", "<c d>", "<e>"]);
        assert_eq!(shown("x ${UNKNOWN} $"), ["<x>", "<${UNKNOWN}>", "<$>"]);
        assert_eq!(shown("x \"\" 'a b'"), ["<x>", "<>", "<'a>", "<b'>"]);
        assert_eq!(shown(r#"x a\b "a\"b"#), ["<x>", r"<a\b>", r"<a\>", "<b>"]);
        assert!(tokens("x \"a\"").1 && !tokens("x \"a").1);
    }

    #[test]
    fn the_words_of_a_command_are_whole() {
        let lines = [r#"script "/bin/sh -c \"exit 0\"" root { x }"#, r"notify '/x \x41'"];
        let lines = lines.map(|text| Line { place: Place { file: 0, line: 1 }, text: text.to_owned() });
        let nodes = grow(&lines, &mut Ledger::default());
        let words: Vec<_> = nodes.iter().map(|node| node.words_of_command().unwrap()).collect();
        assert_eq!(words, [vec!["script", "/bin/sh -c \"exit 0\"", "root"], vec!["notify", "/x A"]]);
    }
}
