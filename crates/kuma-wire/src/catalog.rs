//! The catalog: where the other servers of a control plane are, for programs that only know its HTTP API.

use serde::{Deserialize, Serialize};

/// The answer to `GET /catalog`. A reader takes what is missing as empty, and passes over what it does not know.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    /// The servers.
    pub apis: Apis,
}

/// The servers of a control plane.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Apis {
    /// Where kuma-dp asks for what Envoy starts with; [`crate::bootstrap`].
    pub bootstrap: Server,
    /// Where tokens are issued; with an empty `localUrl` no token is asked for. An older name of `admin`.
    pub dataplane_token: AdminServer,
    /// Where a control plane is administered.
    pub admin: AdminServer,
    /// Where it is told, by gRPC, at which addresses proxies offer their metrics.
    pub monitoring_assignment: Server,
    /// Where proxies get their configuration, by xDS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xds: Option<Server>,
    /// Where several documents are changed in one commit; not there where nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Server>,
}

/// A server with one address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its base URL.
    pub url: String,
}

/// A server that is reached in one way from its own machine, and in another one from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AdminServer {
    /// Its URL on its own machine; empty if it is not there.
    pub local_url: String,
    /// Its URL for others, with a client certificate; empty if it is not there.
    pub public_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_called_as_documented() {
        let catalog = Catalog {
            apis: Apis {
                bootstrap: Server { url: "http://a:5682".into() },
                dataplane_token: AdminServer { local_url: "http://localhost:5679".into(), public_url: String::new() },
                admin: AdminServer { local_url: "http://localhost:5679".into(), public_url: "https://a:5684".into() },
                monitoring_assignment: Server { url: "grpc://a:5676".into() },
                xds: Some(Server { url: "grpcs://a:5678".into() }),
                changes: Some(Server { url: "http://a:5681/changes".into() }),
            },
        };
        let json = serde_json::json!({"apis": {
            "bootstrap": {"url": "http://a:5682"},
            "dataplaneToken": {"localUrl": "http://localhost:5679", "publicUrl": ""},
            "admin": {"localUrl": "http://localhost:5679", "publicUrl": "https://a:5684"},
            "monitoringAssignment": {"url": "grpc://a:5676"},
            "xds": {"url": "grpcs://a:5678"},
            "changes": {"url": "http://a:5681/changes"},
        }});
        assert_eq!(serde_json::to_value(&catalog).expect("JSON"), json);
        assert_eq!(serde_json::from_value::<Catalog>(json).expect("a catalog"), catalog);
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_unknown_is_passed_over() {
        let read = |text| serde_json::from_str::<Catalog>(text).expect("a catalog");
        assert_eq!(read("{}"), Catalog::default());
        assert_eq!(read(r#"{"apis": {"sds": {"url": "x"}, "admin": {}}, "more": 1}"#), Catalog::default());
        assert!(serde_json::from_str::<Catalog>(r#"{"apis": 7}"#).is_err());
    }
}
