//! Reads documents from files, folders, stdin, or URLs.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::fetch::fetch;

/// Largest input, in bytes.
pub(crate) const MAX_INPUT: usize = 10 << 20;

/// The text of one input.
#[derive(Debug)]
pub(crate) struct Input {
    /// Its name in messages.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

/// Extensions of the files that are read from a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads the inputs of all `-f`, in their order; without any, stdin.
pub(crate) async fn read(files: &[String]) -> Result<Vec<Input>, Failure> {
    if files.is_empty() {
        return Ok(vec![read_one("-").await?]);
    }
    let mut inputs = Vec::new();
    let mut total = 0;
    for file in files {
        for path in expand(file)? {
            let input = read_one(&path).await?;
            total += input.text.len();
            if total > MAX_INPUT {
                return Err(Failure::new(format!("the input is longer than {} MB", MAX_INPUT >> 20)));
            }
            inputs.push(input);
        }
    }
    Ok(inputs)
}

/// The files of a folder or a pattern, sorted by name; anything else is returned as it is.
fn expand(file: &str) -> Result<Vec<String>, Failure> {
    let path = Path::new(file);
    if file == "-" || file.contains("://") || path.is_file() {
        return Ok(vec![file.to_owned()]);
    }
    let failure = |reason: &dyn std::fmt::Display| Failure::new(format!("could not read {file}: {reason}"));
    let mut found: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let paths = entries.map_err(|error| failure(&error))?.into_iter().map(|entry| entry.path());
        let is_document =
            |path: &PathBuf| path.extension().is_some_and(|ending| ENDINGS.iter().any(|one| ending == *one));
        paths.filter(is_document).collect()
    } else if file.contains(['*', '?', '[']) {
        let paths = glob::glob(file).map_err(|error| failure(&error))?;
        paths.collect::<Result<_, _>>().map_err(|error| failure(&error))?
    } else {
        // If it does not exist, reading it gives the error.
        return Ok(vec![file.to_owned()]);
    };
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() {
        let what = if path.is_dir() { "there is no *.yaml, *.yml or *.json file in it" } else { "no file matches" };
        return Err(failure(&what));
    }
    Ok(found.into_iter().map(|path| path.display().to_string()).collect())
}

/// Reads one input; `-` is stdin.
async fn read_one(file: &str) -> Result<Input, Failure> {
    let (name, bytes) = match file {
        "-" => {
            if std::io::stdin().is_terminal() {
                eprintln!("Reading from the terminal until Ctrl-D; use -f to name a file");
            }
            ("standard input", bounded(std::io::stdin().lock()))
        }
        address if address.contains("://") => {
            let body = fetch(address)
                .await
                .map_err(|failure| failure.context(format!("could not download {}", without_password(address))));
            (address, Ok(body?))
        }
        path => (path, File::open(path).and_then(bounded)),
    };
    let attempt = |failure: Failure| failure.context(format!("could not read {name}"));
    let bytes = bytes.map_err(|error| attempt(Failure::new(error.to_string())))?;
    let text = String::from_utf8(bytes).map_err(|_| attempt(Failure::new("it is not UTF-8 text")))?;
    Ok(Input { name: name.to_owned(), text })
}

/// A URL for messages, without its password.
fn without_password(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("*****"));
            url.into()
        }
        _ => address.to_owned(),
    }
}

fn bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_INPUT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_INPUT {
        return Err(std::io::Error::other(format!("it is longer than {} MB", MAX_INPUT >> 20)));
    }
    Ok(bytes)
}
