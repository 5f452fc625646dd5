//! Whether a stream may speak for a Dataplane: one answer for configuration, secrets and reports alike.
//!
//! A token proves it. Without one, what is said counts only where no token is needed, only from the Dataplane's own
//! address, and never beside a stream that is proved. Nothing that others see (endpoints, presence, insights, receipts,
//! metrics) is touched by a stream before the answer.

use std::net::IpAddr;

use kuma_mesh::MeshSnapshot;
use kuma_xds::grpc::{Code, Status};

/// Who is at the other end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Whether a token proved that it is of the Dataplane that it names.
    pub authenticated: bool,
    /// Whether the connection is encrypted: secrets travel on no other.
    pub encrypted: bool,
    /// Where it comes from.
    pub address: IpAddr,
}

impl Caller {
    /// Whether it comes from this address.
    pub(crate) fn comes_from(&self, address: IpAddr) -> bool {
        self.address.to_canonical() == address.to_canonical()
    }

    /// Whether it is a connection of this machine to itself, as the system makes them.
    fn is_local(&self) -> bool {
        let address = self.address.to_canonical();
        address == IpAddr::from([127, 0, 0, 1]) || address == IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
    }
}

/// What a stream may do.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It may not be open.
    Refused(Status),
    /// There is no such Dataplane, or not yet.
    Unknown,
    /// It may have what the mesh gives to anybody. What it says counts for nothing.
    Stranger,
    /// It speaks for the Dataplane.
    Speaks,
}

impl Standing {
    /// Whether it is [`Standing::Speaks`].
    pub fn speaks(&self) -> bool {
        matches!(self, Standing::Speaks)
    }
}

/// What a caller may do as this proxy of a mesh. `proved_beside`: whether another stream of the proxy is proved.
/// `is_of_this_machine` says whether an address is.
pub(crate) fn standing(
    snapshot: &MeshSnapshot,
    proxy: &str,
    caller: &Caller,
    proved_beside: bool,
    is_of_this_machine: fn(IpAddr) -> bool,
) -> Standing {
    if let Some(status) = refusal(snapshot, caller) {
        return Standing::Refused(status);
    }
    let Some(dataplane) = snapshot.dataplane(proxy) else { return Standing::Unknown };
    if caller.authenticated {
        return Standing::Speaks;
    }
    let is_its_own = |address: IpAddr| caller.comes_from(address) || caller.is_local() && is_of_this_machine(address);
    // A gateway has no inbound.
    let networking = dataplane.spec.networking.as_ref().and_then(|networking| networking.address.parse().ok());
    let mut addresses = dataplane.inbounds.iter().map(|inbound| inbound.advertised).chain(networking);
    match !proved_beside && addresses.any(is_its_own) {
        true => Standing::Speaks,
        false => Standing::Stranger,
    }
}

/// Why a caller may have no stream of a mesh, if it may not.
fn refusal(snapshot: &MeshSnapshot, caller: &Caller) -> Option<Status> {
    let mesh = &snapshot.name;
    if !snapshot.mtls_enabled() {
        None
    } else if !caller.authenticated {
        let text = format!(
            "mesh {mesh:?} has mTLS: a dataplane token is required (kumactl generate dataplane-token, kuma-dp run \
             --dataplane-token-file)"
        );
        Some(Status::new(Code::Unauthenticated, text))
    } else if !caller.encrypted {
        let text = format!("mesh {mesh:?} has mTLS: the connection to the control plane must be TLS");
        Some(Status::new(Code::PermissionDenied, text))
    } else {
        None
    }
}

/// Whether an address is one of this machine's: it can be bound.
pub fn is_of_this_machine(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}
