//! The settings as a list, for `kuma-cp run -h` and for the documents. It is made of the defaults, of [`ENV`] and of
//! the table `descriptions::DESCRIPTIONS`, so a new setting is in it at once.

use std::fmt::Write as _;

use serde_json::Value;

use super::descriptions::DESCRIPTIONS;
use super::{Config, ENV};

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its place in the file, such as `apiServer.port`.
    pub key: String,
    /// The variables that set it; the later wins.
    pub variables: Vec<&'static str>,
    /// Its default as JSON; masked if it is a secret.
    pub default: String,
    /// What it is for, in one sentence.
    pub description: &'static str,
}

/// Every setting, ordered by key.
pub fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    collect("", &Config::default().to_json(), &mut settings);
    settings
}

fn collect(prefix: &str, value: &Value, settings: &mut Vec<Setting>) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            let dot = if prefix.is_empty() { "" } else { "." };
            collect(&format!("{prefix}{dot}{name}"), value, settings);
        }
        return;
    }
    let variables = ENV.iter().filter(|(_, path)| *path == prefix).map(|(variable, _)| *variable).collect();
    let description = DESCRIPTIONS.iter().find(|(path, _)| *path == prefix).map_or("", |(_, description)| description);
    settings.push(Setting { key: prefix.to_owned(), variables, default: value.to_string(), description });
}

/// For a terminal: the variable first, since that is what most people set.
pub fn help() -> String {
    let mut text =
        String::from("Settings, as variables of the environment [and keys of the file], with their defaults:\n");
    for Setting { key, variables, default, description } in settings() {
        let _ = write!(text, "\n  {}\n      [{key}] {default}\n      {description}", variables.join(", "));
    }
    text
}

/// For `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration of kuma-cp\n\n\
         Defaults, then the YAML file (`kuma-cp run -c FILE`), then the environment: the later wins. In the file, the\n\
         parts of a key are nested. A variable that is set but empty counts as set. Lists are separated by commas,\n\
         durations are written as `1m30s`. Mistakes are reported all together, each with its source; `GET /config`\n\
         shows what is in effect, secrets masked.\n\n\
         The program prints this list (`kuma-cp run -h`), and a test checks that both are equal.\n\n\
         | key | variable | default | |\n| --- | --- | --- | --- |\n",
    );
    for Setting { key, variables, default, description } in settings() {
        let variables: Vec<String> = variables.iter().map(|variable| format!("`{variable}`")).collect();
        let _ = writeln!(text, "| `{key}` | {} | `{default}` | {description} |", variables.join(", "));
    }
    text
}
