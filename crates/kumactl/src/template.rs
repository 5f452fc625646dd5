//! Placeholders in applied text: `{{ name }}` becomes the value that `--var name=value` gives.
//!
//! The syntax is a part of Mustache, with differences for YAML and JSON: values are inserted unescaped (Mustache
//! escapes for HTML and turns `a&b` into `a&amp;b`), so that `{{{name}}}` and `{{&name}}` mean the same; a placeholder
//! without a value is an error (Mustache inserts nothing); and braces without a name in them, such as those of a Lua
//! table, are kept. `{{! … }}` is a comment. Sections and partials are refused.

use std::collections::BTreeMap;

/// Why text could not be rendered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// No value was given for the placeholder.
    NoValue {
        /// Its name.
        name: String,
        /// Its line, counted from 1.
        line: usize,
    },
    /// A part of Mustache that is not supported.
    Unsupported {
        /// The tag as written.
        tag: String,
        /// Its line, counted from 1.
        line: usize,
    },
}

/// Replaces the placeholders of `text`. Placeholders in values are not replaced.
pub(crate) fn render(text: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut rendered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let line = || 1 + text[..text.len() - rest.len() + start].matches('\n').count();
        rendered.push_str(&rest[..start]);
        let from_tag = &rest[start..];
        match tag(from_tag) {
            Tag::Name { name, length } => {
                let value =
                    values.get(name).ok_or_else(|| TemplateError::NoValue { name: name.to_owned(), line: line() })?;
                rendered.push_str(value);
                rest = &from_tag[length..];
            }
            Tag::Comment { length } => rest = &from_tag[length..],
            Tag::Unsupported { length } => {
                return Err(TemplateError::Unsupported { tag: from_tag[..length].to_owned(), line: line() });
            }
            Tag::Text => {
                rendered.push('{');
                rest = &from_tag[1..];
            }
        }
    }
    rendered.push_str(rest);
    Ok(rendered)
}

enum Tag<'a> {
    Name { name: &'a str, length: usize },
    Comment { length: usize },
    Unsupported { length: usize },
    Text,
}

/// Parses the tag at the beginning of `text`, which begins with two braces.
fn tag(text: &str) -> Tag<'_> {
    let (open, close) = if text.starts_with("{{{") { (3, "}}}") } else { (2, "}}") };
    let Some(end) = text[open..].find(close).map(|end| open + end) else {
        return Tag::Text;
    };
    let length = end + close.len();
    let inner = &text[open..end];
    if inner.starts_with('!') && open == 2 {
        return Tag::Comment { length };
    }
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let trimmed = inner.trim();
    let (sigil, name) = match trimmed.chars().next() {
        Some(sigil @ ('&' | '#' | '^' | '/' | '>')) => (Some(sigil), trimmed[1..].trim_start()),
        _ => (None, trimmed),
    };
    match sigil {
        _ if !is_name(name) => Tag::Text,
        None | Some('&') => Tag::Name { name, length },
        Some(_) => Tag::Unsupported { length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, TemplateError>) {
        let values = [("name", "web-1"), ("a.b", "<&>"), ("again", "{{name}}"), ("größe", "2")];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(render(text, &values), expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn placeholders_become_values() {
        check("name: {{name}}-{{ name }}\n", Ok("name: web-1-web-1\n"));
        check("{{größe}}", Ok("2"));
        check("{{{ name }}}{{&name}}{{& name}}", Ok("web-1web-1web-1"));
    }

    #[test]
    fn values_are_inserted_as_they_are() {
        check("{{a.b}}", Ok("<&>"));
        check("{{again}}", Ok("{{name}}"));
    }

    #[test]
    fn other_braces_stay() {
        for text in ["", "a: {b: {c: 1}}", "{{1, 2}}", "{{}}", "{{ }}", "{{ open", "{{{{", "}}", "{{{}}}"] {
            check(text, Ok(text));
        }
        check("[{{{name}}]", Ok("[{web-1]"));
        check("{a: {{name}}}", Ok("{a: web-1}"));
    }

    #[test]
    fn comments_vanish() {
        check("a{{! {note}\n }}b", Ok("ab"));
    }

    #[test]
    fn what_has_no_value_is_named_with_its_line() {
        check("a\nb {{ nam }}", Err(TemplateError::NoValue { name: "nam".to_owned(), line: 2 }));
        for tag in ["{{#list}}", "{{^list}}", "{{/list}}", "{{> part}}"] {
            check(&format!("{{{{name}}}}\n{tag}"), Err(TemplateError::Unsupported { tag: tag.to_owned(), line: 2 }));
        }
    }
}
