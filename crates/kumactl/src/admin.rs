//! The admin API of a control plane: where it is, and dataplane tokens from it.
//!
//! It gives out identities, so it listens on the loopback interface of its own machine. Whether that is this machine is told by the address
//! that the HTTP API is reached at; the port is told by the catalog of the API.

use serde_json::{Value, json};
use url::Url;

use crate::client::{ADMIN_TIMEOUT, CallError, Client};
use crate::config::{Active, parse_address};
use crate::failure::Failure;

/// A new token for the dataplane `name` of `mesh`.
pub(crate) async fn dataplane_token(active: Active<'_>, name: &str, mesh: &str, log: bool) -> Result<String, Failure> {
    let admin = tokens_client(active, log)
        .await
        .map_err(|failure| failure.context("failed to create dataplane token client"))?;
    let answer = admin.post(&["tokens"], &json!({"name": name, "mesh": mesh})).await;
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

async fn tokens_client(active: Active<'_>, log: bool) -> Result<Client, Failure> {
    let catalog = Client::new(active.address, ADMIN_TIMEOUT, log)?.get(&["catalog"], &[]).await?;
    let url = |pointer: &str| catalog.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if url("/apis/dataplaneToken/localUrl").is_empty() {
        return Err(Failure::new("Enable the server to be able to generate tokens."));
    }
    if is_this_machine(active.address)? {
        return Client::new(&url("/apis/admin/localUrl"), ADMIN_TIMEOUT, log);
    }
    Err(refusal(active.admin_api.is_some(), !url("/apis/admin/publicUrl").is_empty()))
}

/// Whether the host of an address resolves to loopback addresses, and to nothing else.
fn is_this_machine(address: &str) -> Result<bool, Failure> {
    let url: Url = parse_address(address).map_err(Failure::new)?;
    let resolved = url
        .socket_addrs(|| None)
        .map_err(|error| Failure::new(format!("could not resolve the host of {address}: {error}")))?;
    Ok(!resolved.is_empty() && resolved.iter().all(|address| address.ip().to_canonical().is_loopback()))
}

/// Why the admin API of another machine is not called.
fn refusal(certificate_here: bool, tls_there: bool) -> Failure {
    let reason = match (certificate_here, tls_there) {
        (false, true) => "admin server in kuma-cp is configured with TLS and kumactl is not.",
        (true, false) => "kumactl is configured with TLS and admin server in kuma-cp is not.",
        (false, false) => "both kumactl and admin server in kuma-cp are not configured with TLS.",
        (true, true) => "this version of kumactl does not talk to the admin server over TLS yet.",
    };
    Failure::new(format!("kumactl is trying to access admin server in remote machine but: {reason}"))
        .note("There are three ways out:")
        .note("1. run kumactl on the machine where kuma-cp runs;")
        .note("2. forward ports 5681 and 5679 of that machine to this one (`ssh -L 5681:localhost:5681 -L 5679:localhost:5679 …`) and use http://localhost:5681 as the address;")
        .note("3. in a later version, not in this one: TLS on both sides, with a certificate for the admin server of kuma-cp (KUMA_ADMIN_SERVER_PUBLIC_*), and one for kumactl (`kumactl config control-planes add` with --admin-client-cert and --admin-client-key).")
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
