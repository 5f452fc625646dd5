//! Text into JSON values: YAML or JSON, one document or several.
//!
//! Documents come from anyone who may write, so the reading is bounded before it begins: nesting, aliases, and the
//! number of values.

use std::fmt;

use serde_json::Value;

mod json;
mod places;
mod yaml;

pub use json::parse_json;
pub use places::{Content, Node, parse_places};
pub use yaml::parse_documents;

/// Deepest nesting of values. The deepest documented resource has nine levels.
pub const MAX_DEPTH: usize = 64;

/// Most values in one text, those repeated by aliases counted each time.
pub const MAX_VALUES: usize = 1_000_000;

/// Why a text is not read. Displayed with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// Which document of the text, from 1.
    pub document: usize,
    /// Line of the whole text, from 1; 0 if unknown.
    pub line: usize,
    /// Column, from 1; 0 if unknown.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.document > 1 {
            write!(f, "document {}, ", self.document)?;
        }
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TextError {}

/// Reads a text that holds exactly one document.
pub fn parse_one(text: &str) -> Result<Value, TextError> {
    let mut documents = parse_documents(text)?;
    let message = match (documents.pop(), documents.len()) {
        (Some(document), 0) => return Ok(document),
        (None, _) => "there is no document".to_owned(),
        (Some(_), more) => format!("expected one document, found {}", more + 1),
    };
    Err(TextError { document: 1, line: 0, column: 0, message })
}
