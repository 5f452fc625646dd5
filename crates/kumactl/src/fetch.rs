//! Downloads a document that is named by a URL.
//!
//! The URL may have been copied from a web page, so the request is limited: `http` and `https` only, also after
//! redirects; few redirects, and none from `https` to `http`; no credentials; a maximum size and time. Hosts are not
//! limited: the command runs on the user's own machine.

use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use url::Url;

use crate::client::{http_client, root_cause};
use crate::failure::Failure;
use crate::input::MAX_INPUT;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// Time for the whole download, including redirects.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The body of a successful response. A failure has the reason only; the caller adds what was attempted.
pub(crate) async fn fetch(address: &str) -> Result<Vec<u8>, Failure> {
    let url = Url::parse(address).map_err(|error| Failure::new(error.to_string()))?;
    may_fetch(&url)?;
    if url.scheme() == "http" {
        eprintln!("Warning: {address} is read over plain HTTP: anybody on the network path can change it");
    }
    let download = async { body(follow(url).await?).await };
    let late = |_| Failure::new(format!("not complete within {} s", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, download).await.map_err(late)?
}

/// The response after all redirects. Each step uses a new client, as if the user had given that URL.
async fn follow(mut url: Url) -> Result<Response, Failure> {
    for _ in 0..=MAX_REDIRECTS {
        let response = match http_client(&url).redirect(Policy::none()).build() {
            Ok(client) => client.get(url.clone()).send().await,
            Err(error) => Err(error),
        };
        let response = response.map_err(|error| Failure::new(root_cause(&error)))?;
        match response.status() {
            StatusCode::OK => return Ok(response),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                let next = next.ok_or_else(|| Failure::new("a redirect leads nowhere"))?;
                may_fetch(&next).map_err(|failure| failure.context("a redirect is not followed"))?;
                if url.scheme() == "https" && next.scheme() == "http" {
                    return Err(Failure::new("a redirect is not followed: it leads from https down to http"));
                }
                url = next;
            }
            status => return Err(Failure::new(format!("the answer is {status}"))),
        }
    }
    Err(Failure::new(format!("more than {MAX_REDIRECTS} redirects")))
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::new(root_cause(&error)))? {
        if body.len() + chunk.len() > MAX_INPUT {
            return Err(Failure::new(format!("it is longer than {} MB", MAX_INPUT >> 20)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Fails for a URL that is not fetched.
fn may_fetch(url: &Url) -> Result<(), Failure> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::new(format!("only http and https are read, not {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::new("the address has a user name or password, and these are not sent"));
    }
    Ok(())
}
