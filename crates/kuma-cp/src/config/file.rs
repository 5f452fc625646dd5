//! The configuration file: YAML text to single settings, each with its line and column.

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle};

/// Largest file that is read. The documented file with every key is about 10 KiB.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// Deepest nesting; the tree of settings is five levels deep.
const MAX_DEPTH: usize = 16;

/// One node of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) content: Content,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing, or `~`: the default stays.
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// Keys in the order of the file.
    Map(Vec<(Node, Node)>),
}

/// Where the text stops being something we can read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

impl Unreadable {
    fn at(mark: &Marker, message: impl Into<String>) -> Self {
        Self { line: mark.line(), column: mark.col() + 1, message: message.into() }
    }
}

/// Reads the single document of `text`; an empty file is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Unreadable> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = Node { line: 1, column: 1, content: Content::Null };
    let mut documents = 0;
    loop {
        let (event, mark) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Unreadable::at(&mark, "expected a single document"));
                }
            }
            event => root = reader.node(event, mark, 0)?,
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Marker), Unreadable> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, span.start)),
                Some(Err(error)) => return Err(Unreadable::at(error.marker(), error.info())),
                None => return Ok((Event::StreamEnd, Marker::default())),
            }
        }
    }

    /// Reads the node that begins with `event`.
    fn node(&mut self, event: Event<'a>, mark: Marker, depth: usize) -> Result<Node, Unreadable> {
        if depth > MAX_DEPTH {
            return Err(Unreadable::at(&mark, "nested too deeply"));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => match text.as_ref() {
                "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Content::Null,
                _ => Content::Scalar(text.into_owned()),
            },
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Content::List(items),
                        (event, mark) => items.push(self.node(event, mark, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                loop {
                    let (event, mark) = self.next()?;
                    if event == Event::MappingEnd {
                        break Content::Map(entries);
                    }
                    let key = self.node(event, mark, depth + 1)?;
                    let (event, mark) = self.next()?;
                    entries.push((key, self.node(event, mark, depth + 1)?));
                }
            }
            // An alias can make a small file unfold into a huge tree, and no setting needs one.
            Event::Alias(_) => return Err(Unreadable::at(&mark, "aliases are not supported here")),
            _ => return Err(Unreadable::at(&mark, "unexpected end")),
        };
        Ok(Node { line: mark.line(), column: mark.col() + 1, content })
    }
}
