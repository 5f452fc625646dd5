//! The error messages of commands.

use std::fmt;

/// Prints as `Error: …`, a line `* field: message` per cause, notes, and a `Hint: …` if the user can do something about
/// it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    causes: Vec<(String, String)>,
    notes: Vec<String>,
    hint: Option<String>,
    also: Vec<Failure>,
}

impl Failure {
    /// A failure described by one sentence without a full stop.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), ..Failure::default() }
    }

    /// Adds an error of one field of a document.
    pub(crate) fn cause(mut self, field: impl Into<String>, message: impl Into<String>) -> Failure {
        self.causes.push((field.into(), message.into()));
        self
    }

    /// Adds a line with a note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Failure {
        self.notes.push(note.into());
        self
    }

    /// Sets the hint: what the user can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prefixes the message with what was attempted: `attempt: message`.
    pub(crate) fn context(mut self, attempt: impl fmt::Display) -> Failure {
        self.message = format!("{attempt}: {}", self.message);
        self
    }

    /// Replaces the message; the old one becomes a note.
    pub(crate) fn under(mut self, message: impl Into<String>) -> Failure {
        let said = std::mem::replace(&mut self.message, message.into());
        self.notes.insert(0, said);
        self
    }

    /// One failure that prints all of `failures`, which must not be empty, in their order.
    pub(crate) fn all(failures: Vec<Failure>) -> Failure {
        let mut failures = failures.into_iter();
        let mut first = failures.next().unwrap_or_default();
        first.also.extend(failures);
        first
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { message, causes, notes, hint, also } = self;
        writeln!(f, "Error: {}", printable(message))?;
        for (field, message) in causes {
            if field.is_empty() {
                writeln!(f, "* {}", printable(message))?;
            } else {
                writeln!(f, "* {}: {}", printable(field), printable(message))?;
            }
        }
        for note in notes {
            writeln!(f, "{}", printable(note))?;
        }
        also.iter().try_for_each(|failure| failure.fmt(f))?;
        hint.iter().try_for_each(|hint| writeln!(f, "Hint: {hint}"))
    }
}

/// Escapes control characters: text from documents and servers must not control the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if kuma_model::steers(c) && c != '\n' { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_in_order() {
        let second = Failure::new("two\u{1b}[31m");
        let first = Failure::new("one")
            .cause("a.b[0]", "is wrong")
            .cause("", "no field")
            .note("nothing was applied")
            .context("attempt");
        assert_eq!(
            Failure::all(vec![first, second]).hint("do this").to_string(),
            "Error: attempt: one\n* a.b[0]: is wrong\n* no field\nnothing was applied\nError: two\\u{1b}[31m\n\
             Hint: do this\n"
        );
    }
}
