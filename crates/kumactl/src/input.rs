//! Text to apply: from a file, from stdin, or from a URL.

use std::fs::File;
use std::io::{IsTerminal, Read};

use crate::failure::Failure;
use crate::fetch::fetch;

/// Most bytes that are read.
pub(crate) const MAX_INPUT: usize = 10 << 20;

/// Text and where it is from.
#[derive(Debug)]
pub(crate) struct Input {
    /// As messages call it.
    pub(crate) name: String,
    /// All of it.
    pub(crate) text: String,
}

/// Reads what `-f` names; `-` and nothing are stdin.
pub(crate) async fn read(file: Option<&str>) -> Result<Input, Failure> {
    let (name, bytes) = match file {
        None | Some("-") => {
            if std::io::stdin().is_terminal() {
                eprintln!("Reading from the terminal until Ctrl-D; use -f to name a file");
            }
            ("standard input", bounded(std::io::stdin().lock()))
        }
        Some(address) if address.contains("://") => {
            let body = fetch(address)
                .await
                .map_err(|failure| failure.context(format!("could not download {}", without_password(address))));
            (address, Ok(body?))
        }
        Some(path) => (path, File::open(path).and_then(bounded)),
    };
    let attempt = |failure: Failure| failure.context(format!("could not read {name}"));
    let bytes = bytes.map_err(|error| attempt(Failure::new(error.to_string())))?;
    let text = String::from_utf8(bytes).map_err(|_| attempt(Failure::new("it is not UTF-8 text")))?;
    Ok(Input { name: name.to_owned(), text })
}

/// A URL as messages may show it.
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
