//! The list of settings that people read.

use kuma_cp::config::ENV;
use kuma_cp::config::reference::{help, markdown, settings};

#[test]
fn every_setting_has_a_variable_and_every_variable_a_setting() {
    let settings = settings();
    for setting in &settings {
        assert!(!setting.variables.is_empty(), "{} cannot be set by the environment", setting.key);
    }
    for (variable, path) in ENV {
        assert!(settings.iter().any(|setting| setting.key == *path), "{variable} sets {path}, which is no setting");
        assert!(help().contains(variable));
    }
    let password = settings.iter().find(|setting| setting.key == "store.postgres.password").expect("it is one");
    assert_eq!(password.default, "\"*****\"");
}

#[test]
fn every_setting_says_what_it_is_for() {
    let (help, markdown) = (help(), markdown());
    for setting in settings() {
        let description = setting.description;
        let is_sentence =
            description.starts_with(|first: char| first.is_ascii_uppercase()) && description.ends_with('.');
        assert!(is_sentence && !description.contains('\n'), "{}: {description:?} is no sentence", setting.key);
        assert!(!description.contains('|'), "{}: {description:?} would break the table", setting.key);
        assert!(help.contains(description) && markdown.contains(description), "{} is not shown", setting.key);
    }
}

#[test]
fn the_document_is_what_the_program_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).expect("writes");
    }
    let document = std::fs::read_to_string(path).expect("docs/configuration.md");
    assert!(document == markdown(), "docs/configuration.md is out of date: run this test with UPDATE_DOCS=1");
}
