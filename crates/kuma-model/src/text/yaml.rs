//! YAML streams.

use serde_json::Value;

use super::{MAX_DEPTH, MAX_VALUES, TextError, parse_json};

/// Most aliases in one text.
const MAX_ALIASES: usize = 1_000;

/// Most documents in one text.
const MAX_DOCUMENTS: usize = 100_000;

/// Most nodes that aliases may repeat in one text. A short text may repeat fewer, so that many short ones inside a
/// document (the resources of a ProxyTemplate) cost no more than one long one.
fn max_repeated(text: &str) -> usize {
    (1_000 + text.len()).min(100_000)
}

/// Reads YAML or JSON: any number of documents, separated by `---`. Empty ones are skipped.
///
/// Plain scalars follow YAML 1.2: `no` and `yes` are strings, and so are `010` and `1_000`, whose number would not be
/// what was meant. A key that occurs twice is an error.
pub fn parse_documents(text: &str) -> Result<Vec<Value>, TextError> {
    // JSON that YAML does not read as JSON does exists (escaped surrogate pairs), so JSON gets the first try.
    if text.trim_start().starts_with('{')
        && let Ok(document) = parse_json(text.as_bytes())
    {
        return Ok(vec![document]);
    }
    let mut documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options(text)).map_err(|error| describe(text, &error))?;
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

fn options(text: &str) -> serde_saphyr::Options {
    let max_repeated = max_repeated(text);
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            flow_nesting_limit: MAX_DEPTH,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 2 * MAX_VALUES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_recorded_anchor_events: max_repeated,
            max_merge_keys: MAX_ALIASES,
            max_documents: MAX_DOCUMENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: max_repeated,
            max_replay_stack_depth: MAX_DEPTH,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        emit_comments: false,
        with_snippet: false,
    }
}

fn describe(text: &str, error: &serde_saphyr::Error) -> TextError {
    let error = error.without_snippet();
    let place = error.location();
    let place = place.map(|place| (usize::try_from(place.line()), usize::try_from(place.column())));
    let (line, column) = match place {
        Some((Ok(line), Ok(column))) => (line, column),
        _ => (0, 0),
    };
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    TextError { document: document_at(text, line), line, column, message: plain_message(&message) }
}

/// The library appends the place, which we print in front; and its counters, which mean nothing to a user.
fn plain_message(message: &str) -> String {
    const TOO_LARGE: &str = "YAML document too large or too complex";
    if message.starts_with(TOO_LARGE) {
        return format!("{TOO_LARGE}: nesting, aliases and the number of values are limited");
    }
    let line = message.lines().next().unwrap_or_default();
    line.rfind(" at line ").map_or(line, |end| &line[..end]).to_owned()
}

/// Which document a line belongs to, from 1. A line that begins with `---` starts a document wherever it stands (YAML
/// 1.2, 9.1.2); what is before the first is a document if it is more than comments and directives.
fn document_at(text: &str, line: usize) -> usize {
    let mut started = 0;
    let mut empty_so_far = true;
    for text in text.lines().take(line.max(1)) {
        let marker = text.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if marker {
            started += 1;
        } else if started == 0
            && empty_so_far
            && !matches!(text.trim_start().as_bytes().first(), None | Some(b'#' | b'%'))
        {
            empty_so_far = false;
            started = 1;
        }
    }
    started.max(1)
}
