//! The file format of Prometheus (`file_sd_configs`): a JSON array of targets with their labels.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::labels;
use crate::v1alpha1::{ADDRESS, MonitoringAssignment};

#[derive(Serialize)]
struct Entry<'a> {
    targets: [&'a str; 1],
    labels: BTreeMap<&'a str, &'a str>,
}

/// The file for these assignments, in the order of their names: one entry for each target, with the labels of target
/// and assignment. Indented by four spaces, with a final newline; `[]` if there are none.
///
/// Targets without an address are left out, and so are invalid labels, for which Prometheus would refuse the whole
/// file.
pub fn text(assignments: &[MonitoringAssignment]) -> String {
    let mut sorted: Vec<&MonitoringAssignment> = assignments.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let entries: Vec<Entry<'_>> = sorted.into_iter().flat_map(entries).collect();
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    // Writing to memory cannot fail, and all keys are text.
    let _ = entries.serialize(&mut serializer);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

fn entries(assignment: &MonitoringAssignment) -> impl Iterator<Item = Entry<'_>> {
    assignment.targets.iter().filter_map(|target| {
        let all = assignment.labels.iter().chain(&target.labels);
        let mut labels: BTreeMap<&str, &str> = all.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let address = labels.remove(ADDRESS).filter(|address| !address.is_empty())?;
        labels.retain(|name, _| labels::is_name(name));
        Some(Entry { targets: [address], labels })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1alpha1::Target;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(text(&[]), "[]\n");
    }

    #[test]
    fn labels_of_a_target_win_and_what_prometheus_would_refuse_is_left_out() {
        let target = |pairs| Target { labels: labels(pairs) };
        let several = MonitoringAssignment {
            name: "b".into(),
            targets: vec![target(&[(ADDRESS, "10.0.0.1:1"), ("job", "own")]), target(&[]), target(&[(ADDRESS, "")])],
            labels: labels(&[("job", "all"), ("1st", "no name"), ("mesh", "default")]),
        };
        let first = MonitoringAssignment {
            name: "a".into(),
            targets: vec![target(&[])],
            labels: labels(&[(ADDRESS, "10.0.0.2:1")]),
        };
        let expected = r#"[
    {
        "targets": [
            "10.0.0.2:1"
        ],
        "labels": {}
    },
    {
        "targets": [
            "10.0.0.1:1"
        ],
        "labels": {
            "job": "own",
            "mesh": "default"
        }
    }
]
"#;
        assert_eq!(text(&[several, first]), expected);
    }
}
