//! What kuma-dp reports of its proxy, on a stream of its own to the xDS server.
//!
//! ```proto
//! service DataplaneLifecycle { rpc Report(stream Report) returns (stream Order); }
//! ```
//! The control plane sends no `Order` so far; what it sends is passed over.

/// The path of the method.
pub const METHOD: &str = "/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report";

/// How one proxy is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Mesh of the Dataplane.
    #[prost(string, tag = "1")]
    pub mesh: String,
    /// Name of the Dataplane.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What the proxy is doing.
    #[prost(enumeration = "State", tag = "3")]
    pub state: i32,
    /// For a person; may be empty.
    #[prost(string, tag = "4")]
    pub detail: String,
    /// Tells this kuma-dp from another one of the same Dataplane; made anew at each start.
    #[prost(string, tag = "5")]
    pub instance: String,
}

/// The states of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// Never sent; what a reader makes of a state it does not know.
    Unknown = 0,
    /// Envoy runs, and takes connections.
    Running = 1,
    /// Envoy is about to end: it should get no new connections.
    Draining = 2,
    /// Envoy has ended.
    EnvoyExited = 3,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Programs of different releases understand each other.
    #[test]
    fn the_bytes_stay_as_they_are() {
        let report = Report {
            mesh: "default".into(),
            name: "web-1".into(),
            state: State::Draining as i32,
            detail: "SIGTERM".into(),
            instance: "42".into(),
        };
        let bytes = b"\x0a\x07default\x12\x05web-1\x18\x02\x22\x07SIGTERM\x2a\x0242";
        assert_eq!(report.encode_to_vec(), bytes);
        assert_eq!(Report::decode(bytes.as_slice()), Ok(report));
    }

    #[test]
    fn a_state_of_a_newer_program_is_unknown() {
        let report = Report { state: 7, ..Report::default() };
        assert_eq!(report.state(), State::Unknown);
    }
}
