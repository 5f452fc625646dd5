//! YAML or JSON with the place of every node, for messages that point into a file.

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::{MAX_DEPTH, TextError};

/// One node of a text.
#[derive(Debug)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug)]
pub enum Content {
    /// Nothing, or `~`.
    Null,
    /// Text, a number or a boolean, as it is written.
    Scalar(String),
    /// The elements of a list.
    List(Vec<Node>),
    /// Keys and values, in the order of the text.
    Map(Vec<(Node, Node)>),
    /// A reference to another node. It is not followed: a short text may unfold into a huge tree.
    Alias,
}

/// Reads YAML or JSON: the documents that hold something, in their order.
pub fn parse_places(text: &str) -> Result<Vec<Node>, TextError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), document: 0 };
    let mut documents = Vec::new();
    loop {
        let (event, mark) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) => reader.document += 1,
            event => documents.push(reader.node(event, mark, 0)?),
        }
    }
    documents.retain(|document| !matches!(document.content, Content::Null));
    Ok(documents)
}

impl Node {
    /// Line and column of the field at a path as a [`Violation`](crate::Violation) has it: the place of its name or
    /// element, or of the innermost thing around it that is written.
    pub fn place_of(&self, field: &str) -> (usize, usize) {
        let mut place = (self.line, self.column);
        let mut node = self;
        for step in steps(field) {
            let found = match (&node.content, &step) {
                (Content::Map(entries), Step::Name(name)) => {
                    entries.iter().find(|(key, _)| key.is_named(name)).map(|(key, value)| (key, value))
                }
                (Content::List(elements), Step::Index(index)) => elements.get(*index).map(|element| (element, element)),
                _ => None,
            };
            let Some((named, next)) = found else { break };
            place = (named.line, named.column);
            node = next;
        }
        place
    }

    /// Whether this key is a field's name, in camelCase or snake_case.
    fn is_named(&self, name: &str) -> bool {
        matches!(&self.content, Content::Scalar(key) if key == name || *key == crate::decode::snake_case(name))
    }
}

/// One step of a field's path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// The steps of a path such as `networking.inbound[0].tags["service"]`, up to the first that is not one.
fn steps(field: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        let Some(bracketed) = rest.strip_prefix('[') else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(Step::Name(name[..end].to_owned()));
            rest = &name[end..];
            continue;
        };
        // A key may hold anything, brackets as well: its JSON says where it ends.
        let mut inside = serde_json::Deserializer::from_str(bracketed).into_iter::<serde_json::Value>();
        let step = match inside.next() {
            Some(Ok(serde_json::Value::String(name))) => Step::Name(name),
            Some(Ok(index)) => match index.as_u64().and_then(|index| usize::try_from(index).ok()) {
                Some(index) => Step::Index(index),
                None => break,
            },
            _ => break,
        };
        let Some(after) = bracketed[inside.byte_offset()..].strip_prefix(']') else { break };
        steps.push(step);
        rest = after;
    }
    steps
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Which document is read, from 1.
    document: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, mark: &Marker, message: impl Into<String>) -> TextError {
        let document = self.document.max(1);
        TextError { document, line: mark.line(), column: mark.col() + 1, message: message.into() }
    }

    fn next(&mut self) -> Result<(Event<'a>, Marker), TextError> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, span.start)),
                Some(Err(error)) => return Err(self.error(error.marker(), error.info())),
                None => return Ok((Event::StreamEnd, Marker::default())),
            }
        }
    }

    /// Reads the node that begins with `event`.
    fn node(&mut self, event: Event<'a>, mark: Marker, depth: usize) -> Result<Node, TextError> {
        if depth > MAX_DEPTH {
            return Err(self.error(&mark, "nested too deeply"));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => match text.as_ref() {
                "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Content::Null,
                _ => Content::Scalar(text.into_owned()),
            },
            Event::SequenceStart(..) => {
                let mut elements = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Content::List(elements),
                        (event, mark) => elements.push(self.node(event, mark, depth + 1)?),
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
            Event::Alias(_) => Content::Alias,
            _ => return Err(self.error(&mark, "unexpected end")),
        };
        Ok(Node { line: mark.line(), column: mark.col() + 1, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
type: Dataplane
networking:
  inbound:
  - interface: 1.1.1.1:80:8080
    tags: { \"a]b\": c, service: web }
---
conf: &it
- total_weight: 1
";

    #[test]
    fn fields_are_found_where_they_are_written() {
        let documents = parse_places(TEXT).unwrap();
        let at = |field: &str| documents[0].place_of(field);
        assert_eq!(at("type"), (1, 1));
        assert_eq!(at("networking.inbound[0]"), (4, 5));
        assert_eq!(at("networking.inbound[0].tags[\"a]b\"]"), (5, 13));
        assert_eq!(at("networking.inbound[0].tags[\"service\"]"), (5, 23));
        assert_eq!(documents[1].place_of("conf[0].totalWeight"), (8, 3));
    }

    #[test]
    fn what_is_missing_is_placed_at_what_is_around_it() {
        let documents = parse_places(TEXT).unwrap();
        assert_eq!(documents[0].place_of("networking.gateway.tags"), (2, 1));
        assert_eq!(documents[0].place_of("networking.inbound[7].interface"), (3, 3));
        assert_eq!(documents[0].place_of("mesh"), (1, 1));
        assert_eq!(documents[0].place_of("type[[["), (1, 1));
    }

    #[test]
    fn json_has_places_as_well() {
        let documents = parse_places("{\n  \"conf\": [\n    {\"weight\": -1}\n  ]\n}").unwrap();
        assert_eq!(documents[0].place_of("conf[0].weight"), (3, 6));
    }

    #[test]
    fn a_mistake_of_the_text_has_a_place() {
        let error = parse_places("a: 1\n---\nb: [1\nc: 2").unwrap_err();
        assert_eq!((error.document, error.line > 2), (2, true), "{error}");
        assert!(parse_places(&"[".repeat(MAX_DEPTH + 2)).is_err());
    }

    #[test]
    fn empty_documents_are_not_counted() {
        let documents = parse_places("---\n---\n~\n---\na: 1\n").unwrap();
        assert_eq!((documents.len(), documents[0].place_of("a")), (1, (5, 1)));
    }
}
