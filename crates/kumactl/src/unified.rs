//! Differences between resources, in the format of `diff -u`.

use std::io::IsTerminal as _;

use serde_json::Value;
use similar::TextDiff;

use crate::failure::Failure;
use crate::output::{sorted, yaml};

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

/// Whether to use colours: stdout is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
pub(crate) fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The differences in `items`, which are those of the control plane. `from` and `to` name the two states.
pub(crate) fn unified(items: &[Value], from: &str, to: &str, coloured: bool) -> Result<String, Failure> {
    items.iter().map(|item| one(item, from, to, coloured)).collect()
}

fn one(item: &Value, from: &str, to: &str, coloured: bool) -> Result<String, Failure> {
    let (before, after) = (text(&item["before"])?, text(&item["after"])?);
    let path = path(item);
    let head = |text: &str, state: &str| match text {
        "" => "/dev/null".to_owned(),
        _ => format!("{path}\t{state}"),
    };
    let diff = TextDiff::from_lines(&before, &after);
    let mut diff = diff.unified_diff();
    let diff = diff.context_radius(CONTEXT).header(&head(&before, from), &head(&after, to)).to_string();
    let lines = diff.lines().enumerate().map(|(number, line)| {
        let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let colour = match line.chars().next() {
            _ if number < 2 => BOLD,
            Some('-') => RED,
            Some('+') => GREEN,
            Some('@') => CYAN,
            _ => "",
        };
        if coloured && !colour.is_empty() { format!("{colour}{line}{RESET}\n") } else { format!("{line}\n") }
    });
    Ok(lines.collect())
}

/// The YAML of `get -o yaml`; empty for null.
fn text(document: &Value) -> Result<String, Failure> {
    if document.is_null() {
        return Ok(String::new());
    }
    yaml(&sorted(document.clone())).map_err(|error| Failure::new(format!("could not write YAML: {error}")))
}

/// Such as `default/traffic-log/log-1`.
fn path(item: &Value) -> String {
    let text = |field: &str| item[field].as_str().unwrap_or_default();
    // A newer control plane may have kinds that this program does not know.
    let kind = kuma_model::kind(text("type")).map_or(text("type"), |kind| kind.cli_one);
    let parts = [text("mesh"), kind, text("name")];
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_differ_by_lines() {
        let log =
            |backend: &str| json!({"type": "TrafficLog", "mesh": "demo", "name": "x", "conf": {"backend": backend}});
        let named = json!({"type": "TrafficLog", "mesh": "demo", "name": "x"});
        let item = |before: Value, after: Value| {
            let mut item = named.clone();
            item["before"] = before;
            item["after"] = after;
            item
        };
        let items = [item(log("a"), log("b")), item(Value::Null, log("a")), item(log("a"), Value::Null)];
        assert_eq!(
            unified(&items[..1], "revision 2", "revision 3", false).expect("a text"),
            "--- demo/traffic-log/x\trevision 2\n+++ demo/traffic-log/x\trevision 3\n@@ -1,5 +1,5 @@\n conf:\n\
             -  backend: a\n+  backend: b\n mesh: demo\n name: x\n type: TrafficLog\n"
        );
        assert_eq!(
            unified(&items[1..], "now", "then", true).expect("a text"),
            "\u{1b}[1m--- /dev/null\u{1b}[0m\n\u{1b}[1m+++ demo/traffic-log/x\tthen\u{1b}[0m\n\
             \u{1b}[36m@@ -0,0 +1,5 @@\u{1b}[0m\n\u{1b}[32m+conf:\u{1b}[0m\n\u{1b}[32m+  backend: a\u{1b}[0m\n\
             \u{1b}[32m+mesh: demo\u{1b}[0m\n\u{1b}[32m+name: x\u{1b}[0m\n\u{1b}[32m+type: TrafficLog\u{1b}[0m\n\
             \u{1b}[1m--- demo/traffic-log/x\tnow\u{1b}[0m\n\u{1b}[1m+++ /dev/null\u{1b}[0m\n\
             \u{1b}[36m@@ -1,5 +0,0 @@\u{1b}[0m\n\u{1b}[31m-conf:\u{1b}[0m\n\u{1b}[31m-  backend: a\u{1b}[0m\n\
             \u{1b}[31m-mesh: demo\u{1b}[0m\n\u{1b}[31m-name: x\u{1b}[0m\n\u{1b}[31m-type: TrafficLog\u{1b}[0m\n"
        );
    }

    #[test]
    fn control_characters_are_replaced() {
        let item = json!({"type": "Mesh", "name": "m\u{1b}[2J", "before": null, "after": {"a": "\u{1b}[2J\n\u{7}"}});
        let text = unified(&[item], "a", "b", false).expect("a text");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    }
}
