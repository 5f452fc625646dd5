//! Finds the admin server of a control plane, which issues dataplane tokens and manages the CAs of meshes.
//!
//! Since it issues identities, it listens on the loopback interface, and on other interfaces only with mutual TLS.
//! kumactl uses the first if the address of the HTTP API is a loopback address, otherwise the second; the catalog of
//! the HTTP API has the addresses of both. From another machine, documents are written through the admin server too: it
//! serves the whole HTTP API to clients with a certificate.

use go_duration::GoDuration;
use kuma_wire::catalog::{AdminServer, Apis, Catalog};
use serde_json::json;
use url::Url;

use crate::client::{ADMIN_TIMEOUT, API_TIMEOUT, CallError, Client};
use crate::config::{Active, AdminApi, parse_address};
use crate::failure::Failure;

/// What a token is asked for.
pub(crate) struct WantedToken<'a> {
    /// Of the Dataplane.
    pub(crate) name: &'a str,
    pub(crate) mesh: &'a str,
    /// Without it, it does not expire.
    pub(crate) valid_for: Option<GoDuration>,
}

/// A new token.
pub(crate) async fn dataplane_token(
    active: Active<'_>,
    wanted: &WantedToken<'_>,
    log: bool,
) -> Result<String, Failure> {
    let WantedToken { name, mesh, valid_for } = wanted;
    let admin = tokens_client(active, log)
        .await
        .map_err(|failure| failure.context("failed to create dataplane token client"))?;
    let mut request = json!({"name": name, "mesh": mesh});
    if let Some(valid_for) = valid_for {
        request["validFor"] = valid_for.to_string().into();
    }
    let answer = admin.post(&["tokens"], &request).await;
    answer.map_err(|error| match error {
        CallError::Refused(refusal) => {
            let status = refusal.status.as_u16();
            let message =
                format!("failed to generate a dataplane token: unexpected status code {status}. Expected 200");
            Failure::from(refusal).under(message)
        }
        other => Failure::from(other).context("failed to generate a dataplane token"),
    })
}

/// A client for writes: of the HTTP API if it accepts writes, otherwise of the admin server, with the user's
/// certificate.
pub(crate) async fn writer(active: Active<'_>, log: bool) -> Result<Client, Failure> {
    match active.admin_api {
        Some(_) if !is_this_machine(active.address)? => writer_by(Some(&catalog(active, log).await??), active, log),
        _ => writer_by(None, active, log),
    }
}

/// The same, and whether the control plane accepts several documents in one request. Without a catalog it does not.
pub(crate) async fn writer_of_changes(active: Active<'_>, log: bool) -> Result<(Client, bool), Failure> {
    let apis = match catalog(active, log).await? {
        Ok(apis) => Some(apis),
        Err(error @ CallError::Unreachable { .. }) => return Err(error.into()),
        Err(_) => None,
    };
    let takes_changes = apis.as_ref().is_some_and(|apis| apis.changes.is_some());
    Ok((writer_by(apis.as_ref(), active, log)?, takes_changes))
}

fn writer_by(apis: Option<&Apis>, active: Active<'_>, log: bool) -> Result<Client, Failure> {
    let public = apis.map(|apis| apis.admin.public_url.as_str()).filter(|public| !public.is_empty());
    match (active.admin_api, public) {
        (Some(credentials), Some(public)) if !is_this_machine(active.address)? => {
            public_client(public, credentials, API_TIMEOUT, log)
        }
        _ => Client::new(active.address, API_TIMEOUT, log),
    }
}

async fn tokens_client(active: Active<'_>, log: bool) -> Result<Client, Failure> {
    let apis = catalog(active, log).await??;
    if apis.dataplane_token.local_url.is_empty() {
        return Err(Failure::new("Enable the server to be able to generate tokens."));
    }
    client_of(&apis.admin, active, log)
}

/// A client of the admin server.
pub(crate) async fn client(active: Active<'_>, log: bool) -> Result<Client, Failure> {
    client_of(&catalog(active, log).await??.admin, active, log)
}

/// The same for the key of a CA, which is not given to a server that may be anybody's.
pub(crate) async fn client_for_keys(active: Active<'_>, log: bool) -> Result<Client, Failure> {
    let is_checked = active.admin_api.is_some_and(|credentials| !credentials.server_cert.is_empty());
    if !is_checked && active.admin_api.is_some() && !is_this_machine(active.address)? {
        return Err(Failure::new("the key of a CA is not sent to a server whose identity is not checked").hint(
            "give kumactl the certificate of the control plane's admin server, or that of its CA: `kumactl config \
             control-planes add --overwrite … --admin-server-cert=FILE`",
        ));
    }
    client(active, log).await
}

fn client_of(admin: &AdminServer, active: Active<'_>, log: bool) -> Result<Client, Failure> {
    if is_this_machine(active.address)? {
        // Who answers there may send us on: what is meant for this machine does not leave it.
        if !is_this_machine(&admin.local_url)? {
            let url = &admin.local_url;
            return Err(Failure::new(format!(
                "the catalog of the Control Plane names {url:?} for its local admin server, which is not on this \
                 machine's loopback address"
            )));
        }
        return Client::new(&admin.local_url, ADMIN_TIMEOUT, log);
    }
    match active.admin_api {
        Some(credentials) if !admin.public_url.is_empty() => {
            public_client(&admin.public_url, credentials, ADMIN_TIMEOUT, log)
        }
        credentials => Err(refusal(credentials.is_some(), !admin.public_url.is_empty())),
    }
}

fn public_client(
    url: &str,
    credentials: &AdminApi,
    timeout: std::time::Duration,
    log: bool,
) -> Result<Client, Failure> {
    if !url.starts_with("https://") {
        return Err(Failure::new(format!(
            "the catalog of the Control Plane names {url:?} for its public admin server, which is no https URL"
        )));
    }
    if credentials.server_cert.is_empty() {
        eprintln!(
            "Warning: whether {url} is your Control Plane is not checked. To check it, give its certificate to \
             `kumactl config control-planes add` with --admin-server-cert"
        );
    }
    Client::with_certificate(url, timeout, log, credentials)
}

/// The catalog, or why it could not be read.
async fn catalog(active: Active<'_>, log: bool) -> Result<Result<Apis, CallError>, Failure> {
    let answer = Client::new(active.address, ADMIN_TIMEOUT, log)?.get(&["catalog"], &[]).await;
    // An answer that is no catalog counts as an empty one.
    Ok(answer.map(|catalog| serde_json::from_value::<Catalog>(catalog).unwrap_or_default().apis))
}

/// Whether the host of an address resolves to loopback addresses, and to nothing else.
fn is_this_machine(address: &str) -> Result<bool, Failure> {
    let url: Url = parse_address(address).map_err(Failure::new)?;
    let resolved = url
        .socket_addrs(|| None)
        .map_err(|error| Failure::new(format!("could not resolve the host of {address}: {error}")))?;
    Ok(!resolved.is_empty() && resolved.iter().all(|address| address.ip().to_canonical().is_loopback()))
}

/// Why the admin API of another machine cannot be used.
fn refusal(certificate_here: bool, tls_there: bool) -> Failure {
    let reason = match (certificate_here, tls_there) {
        (false, true) => "admin server in kuma-cp is configured with TLS and kumactl is not.",
        (true, _) => "kumactl is configured with TLS and admin server in kuma-cp is not.",
        (false, false) => "both kumactl and admin server in kuma-cp are not configured with TLS.",
    };
    Failure::new(format!("kumactl is trying to access admin server in remote machine but: {reason}"))
        .note("There are three ways out:")
        .note("1. run kumactl on the machine where kuma-cp runs;")
        .note(
            "2. forward ports 5681 and 5679 of that machine to this one (`ssh -L 5681:localhost:5681 -L \
            5679:localhost:5679 …`) and use http://localhost:5681 as the address;",
        )
        .note(
            "3. configure TLS on both sides: make certificates with `kumactl generate tls-certificate`, give \
            kuma-cp its own and that of this client (KUMA_ADMIN_SERVER_PUBLIC_*), and give kumactl its own (`kumactl \
            config control-planes add` with --admin-client-cert and --admin-client-key).",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_by_what_the_host_resolves_to() {
        for address in [
            "http://127.0.0.1:5681",
            "http://127.1.2.3",
            "http://localhost:5681",
            "http://[::1]:5681",
            "https://[::ffff:127.0.0.1]",
        ] {
            assert_eq!(is_this_machine(address), Ok(true), "{address}");
        }
        for address in ["http://192.0.2.1:5681", "http://[2001:db8::1]"] {
            assert_eq!(is_this_machine(address), Ok(false), "{address}");
        }
    }

    #[test]
    fn the_refusal_names_the_side_that_lacks_tls() {
        for (here, there) in [(false, false), (false, true), (true, false)] {
            insta::assert_snapshot!(format!("refusal-here-{here}-there-{there}"), refusal(here, there));
        }
    }
}
