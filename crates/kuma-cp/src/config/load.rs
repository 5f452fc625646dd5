//! From defaults, file and environment to one checked [`Config`]. All mistakes are reported together.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kuma_model::text::{self, Content, Node};
use serde_json::{Map, Value};

use super::{Config, env, parse};

/// Largest file that is read, in bytes. The documented file with every key is about 10 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration that can be used, and what its author should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences for the log: unknown keys and variables, deprecated settings.
    pub warnings: Vec<String>,
}

/// One thing that is wrong, and the place where it was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// A variable (`KUMA_API_SERVER_PORT`), a place in the file (`FILE:3:9: apiServer.port`), or the path of a setting.
    pub source: String,
    /// What is wrong.
    pub message: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or not for us.
    #[error("Failed to access configuration file {0:?}")]
    Access(PathBuf, #[source] std::io::Error),
    /// The file is there and cannot be read.
    #[error("Failed to read configuration from file {0:?}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not YAML.
    #[error("Failed to parse configuration from file {file:?}: line {line}, column {column}: {message}")]
    Parse {
        /// Name of the file.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// Settings that have no meaning; all of them.
    #[error("Invalid configuration:{}", lines(.0))]
    Invalid(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// Reads `file`, if there is one, and lets `variables` (name, value) override it. A variable that is set to nothing
/// counts as set.
pub fn load(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let Some(path) = file else {
        return build(None, variables);
    };
    let access = |error| ConfigError::Access(path.to_owned(), error);
    let read = |error| ConfigError::Read(path.to_owned(), error);
    let mut text = String::new();
    let size =
        std::fs::File::open(path).map_err(access)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(read)?;
    if size as u64 > MAX_BYTES {
        return Err(read(std::io::Error::other("the file is too large")));
    }
    build(Some((&path.display().to_string(), &text)), variables)
}

/// Like [`load`], with the file given as (name, text).
pub fn build(
    file: Option<(&str, &str)>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut builder = Builder::new();
    if let Some((name, text)) = file {
        let fail = |line, column, message| ConfigError::Parse { file: name.to_string(), line, column, message };
        let documents = text::parse_places(text).map_err(|error| fail(error.line, error.column, error.message))?;
        match documents.as_slice() {
            [] => {}
            [root] => builder.file(name, root),
            [_, more, ..] => return Err(fail(more.line, more.column, "expected a single document".to_owned())),
        }
    }
    builder.environment(&variables.into_iter().collect());
    builder.finish()
}

/// The value of one setting as somebody wrote it.
enum Written {
    Text(String),
    List(Vec<String>),
}

struct Builder {
    /// Every setting with its default: tells which keys exist and of which type they are.
    defaults: Value,
    /// What was set so far; always something that `Config` can be read from.
    tree: Value,
    config: Config,
    sources: BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Builder {
    fn new() -> Self {
        let config = Config::default();
        Self {
            defaults: config.to_json(),
            tree: Value::Object(Map::new()),
            config,
            sources: BTreeMap::new(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn file(&mut self, name: &str, root: &Node) {
        match &root.content {
            Content::Null => {}
            Content::Map(entries) => self.section(name, "", entries),
            _ => self.mistake(place(name, root, ""), "expected a mapping of sections"),
        }
    }

    /// Takes over every setting below the section at `path`.
    fn section(&mut self, name: &str, path: &str, entries: &[(Node, Node)]) {
        let mut seen = Vec::new();
        for (key_node, value) in entries {
            let Content::Scalar(key) = &key_node.content else {
                self.mistake(place(name, key_node, path), "expected a name here");
                continue;
            };
            let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if seen.contains(&key) {
                self.mistake(place(name, key_node, &here), "is set twice");
                continue;
            }
            seen.push(key);
            let default = lookup(&self.defaults, &here);
            let source = place(name, value, &here);
            match (default, &value.content) {
                (None, _) => {
                    let known = children(&self.defaults, path);
                    let hint = nearest(key, known.iter().map(String::as_str));
                    self.warnings.push(format!("{}: unknown setting, ignored{hint}", place(name, key_node, &here)));
                }
                (Some(_), Content::Null) => {}
                // No setting needs one.
                (Some(_), Content::Alias) => self.mistake(source, "aliases are not supported here"),
                (Some(Value::Object(_)), Content::Map(entries)) => self.section(name, &here, entries),
                (Some(Value::Object(_)), _) => self.mistake(source, "expected a mapping"),
                (Some(_), Content::Scalar(text)) => self.set(&here, Written::Text(text.clone()), source),
                (Some(Value::Array(_)), Content::List(items)) => {
                    let texts: Option<Vec<String>> = items
                        .iter()
                        .map(|item| match &item.content {
                            Content::Scalar(text) => Some(text.clone()),
                            _ => None,
                        })
                        .collect();
                    match texts {
                        Some(texts) => self.set(&here, Written::List(texts), source),
                        None => self.mistake(source, "expected a list of texts"),
                    }
                }
                (Some(_), Content::List(_) | Content::Map(_)) => self.mistake(source, "expected a single value"),
            }
        }
    }

    fn environment(&mut self, variables: &BTreeMap<String, String>) {
        for (name, path) in env::ENV {
            if let Some(text) = variables.get(*name) {
                self.set(path, Written::Text(text.clone()), name.to_string());
            }
        }
        for name in variables.keys().filter(|name| env::is_unknown(name)) {
            let hint = nearest(name, env::ENV.iter().map(|(known, _)| *known));
            self.warnings.push(format!("{name}: unknown environment variable, ignored{hint}"));
        }
    }

    /// Sets one setting, or reports why its value means nothing.
    fn set(&mut self, path: &str, written: Written, source: String) {
        let shown = match &written {
            _ if path == "store.postgres.password" => String::new(),
            Written::Text(text) => format!("{text:?}: "),
            Written::List(_) => String::new(),
        };
        let result = self.convert(path, written).and_then(|value| {
            let mut tree = self.tree.clone();
            insert(&mut tree, path, value);
            let config = serde_json::from_value::<Config>(tree.clone()).map_err(|error| error.to_string())?;
            Ok((tree, config))
        });
        match result {
            Ok((tree, config)) => {
                (self.tree, self.config) = (tree, config);
                self.sources.insert(path.to_string(), source);
            }
            Err(message) => self.mistake(source, format!("not a valid value: {shown}{message}")),
        }
    }

    /// Gives a text the JSON type that the setting has.
    fn convert(&self, path: &str, written: Written) -> Result<Value, String> {
        let texts = |list: Vec<String>| Value::Array(list.into_iter().map(Value::String).collect());
        match (lookup(&self.defaults, path), written) {
            (Some(Value::String(_)), Written::Text(text)) => Ok(Value::String(text)),
            (Some(Value::Bool(_)), Written::Text(text)) => {
                parse::boolean(&text).map(Value::Bool).ok_or_else(|| "expected true or false".into())
            }
            (Some(Value::Number(_)), Written::Text(text)) => {
                text.parse::<i64>().map(Value::from).map_err(|_| "expected a whole number".into())
            }
            (Some(Value::Array(_)), Written::Text(text)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(texts(parts.map(String::from).collect()))
            }
            (Some(Value::Array(_)), Written::List(list)) => Ok(texts(list)),
            _ => Err("expected a single value".into()),
        }
    }

    fn mistake(&mut self, source: String, message: impl Into<String>) {
        self.mistakes.push(Mistake { source, message: message.into() });
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        self.mistakes.extend(self.config.check(&self.sources));
        if !self.mistakes.is_empty() {
            return Err(ConfigError::Invalid(self.mistakes));
        }
        if let Some(admin_server) = self.config.dataplane_token_server.replacement() {
            self.config.admin_server = admin_server;
            self.warnings.push(
                "dataplaneTokenServer is deprecated and now replaces all of adminServer: use adminServer instead"
                    .into(),
            );
        }
        Ok(Loaded { config: self.config, warnings: self.warnings })
    }
}

/// `FILE:line:column`, followed by the path of the setting.
fn place(name: &str, node: &Node, path: &str) -> String {
    let separator = if path.is_empty() { "" } else { ": " };
    format!("{name}:{}:{}{separator}{path}", node.line, node.column)
}

pub(super) fn lookup<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |node, key| node.get(key))
}

fn children(tree: &Value, path: &str) -> Vec<String> {
    let section = if path.is_empty() { Some(tree) } else { lookup(tree, path) };
    section.and_then(Value::as_object).map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

fn insert(tree: &mut Value, path: &str, value: Value) {
    let mut node = tree;
    for key in path.split('.') {
        node = &mut node[key];
    }
    *node = value;
}

/// `; did you mean X?`, if some known name is close enough for that to be likely.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best =
        known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, candidate)) if score > 0.85 => format!("; did you mean {candidate}?"),
        _ => String::new(),
    }
}
