//! The table of ARCHITECTURE.md from each feature to its files.

use std::path::Path;

use kuma_model::KINDS;

/// The rows of the table, each as its cells; the first row is the head.
fn rows() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
    let (_, section) = text.split_once("\n## Where each feature is\n").expect("the section");
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).filter(|row: &Vec<String>| row[0] != "---").collect()
}

/// The texts in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_file_of_a_feature_exists() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rows = rows();
    let (head, features) = rows.split_first().expect("a head");
    assert!(features.len() >= KINDS.len(), "{} rows", features.len());
    for row in features {
        assert_eq!(row.len(), head.len(), "{row:?}");
        let files: Vec<_> = std::iter::zip(&head[1..], &row[1..])
            .flat_map(|(column, cell)| {
                let folder = crates.join(quoted(column).first().unwrap_or(&""));
                quoted(cell).into_iter().map(move |file| folder.join(file))
            })
            .collect();
        assert!(!files.is_empty(), "{} has no files", row[0]);
        for file in files {
            assert!(file.is_file(), "{}: {} does not exist", row[0], file.display());
        }
    }
}

#[test]
fn every_kind_has_a_row_with_its_own_file() {
    let rows = rows();
    for kind in KINDS {
        let row = rows.iter().find(|row| row[0] == kind.name).unwrap_or_else(|| panic!("{} has no row", kind.name));
        assert!(quoted(&row[1]).iter().any(|file| file.starts_with("kinds/")), "{row:?}");
    }
}
