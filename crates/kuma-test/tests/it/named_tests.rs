//! The tests that documentation names exist.

use std::path::Path;

/// Pages with tables of tests, and how many tests they name at least.
const PAGES: [(&str, usize); 2] = [("security.md", 20), ("http2.md", 7)];

#[test]
fn tests_that_documentation_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for (page, at_least) in PAGES {
        let text = std::fs::read_to_string(root.join("docs").join(page)).expect("a page");
        let named: Vec<&str> = text.split('`').filter(|code| code.contains(".rs::")).collect();
        assert!(named.len() >= at_least, "{page} names only {} tests", named.len());
        for test in named {
            let (file, function) = test.split_once("::").expect("a function of a file");
            let source = std::fs::read_to_string(root.join("crates").join(file)).unwrap_or_default();
            if !is_test(&source, function) {
                wrong.push(format!("{page}: {test}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "no such tests");
}

/// Whether the function has the attribute of a test, of whichever macro.
fn is_test(source: &str, function: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {function}(")) else { return false };
    // The first piece is the beginning of the function's own line.
    let mut attributes = before.rsplit('\n').skip(1).take_while(|line| line.trim_start().starts_with(['#', '/']));
    attributes.any(|line| line.trim_start().starts_with('#') && line.contains("test"))
}
