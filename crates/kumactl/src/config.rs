//! The user's configuration: the known control planes, and which one commands use.
//!
//! A *control plane* is a named address; a *context* names a control plane together with credentials for it. `kumactl
//! config` makes one context per control plane, with the same name. The names of the fields and their order in the file
//! are those of the original.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::failure::Failure;

/// Address used when the user has configured nothing.
pub(crate) const DEFAULT_ADDRESS: &str = "http://localhost:5681";

/// Content of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Configuration {
    /// The contexts.
    pub(crate) contexts: Vec<Context>,
    /// Known control planes.
    pub(crate) control_planes: Vec<ControlPlane>,
    /// Name of the active context; empty if there is none.
    pub(crate) current_context: String,
}

/// A control plane together with credentials for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Context {
    /// Name of a [`ControlPlane`].
    pub(crate) control_plane: String,
    /// For the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credentials: Option<Credentials>,
    /// Kept for files of the original Kuma, which does not use it either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) defaults: Option<Defaults>,
    /// Name of the context.
    pub(crate) name: String,
}

/// Credentials by API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Credentials {
    /// Client certificate for the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin_api: Option<AdminApi>,
}

/// Files with a client certificate and its key, and with the certificate by which the server is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AdminApi {
    /// Path of the certificate in PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) client_cert: String,
    /// Path of the key in PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) client_key: String,
    /// Path of the admin server's certificate, or of its CA's, in PEM. Files of the original Kuma do not have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) server_cert: String,
}

impl AdminApi {
    /// Neither certificate nor key.
    pub(crate) fn is_empty(&self) -> bool {
        let AdminApi { client_cert, client_key, server_cert: _ } = self;
        client_cert.is_empty() && client_key.is_empty()
    }
}

/// Defaults of a context.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Defaults {
    /// Mesh.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mesh: String,
}

/// A named control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ControlPlane {
    /// Its address.
    pub(crate) coordinates: Coordinates,
    /// Name given by the user.
    pub(crate) name: String,
}

/// The address of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Coordinates {
    /// Its HTTP API.
    pub(crate) api_server: ApiServer,
}

/// The address of an HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ApiServer {
    /// Such as `http://localhost:5681`.
    pub(crate) url: String,
}

/// The active control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Address of its HTTP API.
    pub(crate) address: &'a str,
    /// Credentials of the active context.
    pub(crate) admin_api: Option<&'a AdminApi>,
}

impl Configuration {
    /// The configuration of a new user: a control plane on this machine.
    pub(crate) fn local() -> Configuration {
        let mut local = Configuration::default();
        let context = Context { control_plane: "local".to_owned(), name: "local".to_owned(), ..Context::default() };
        local.put(DEFAULT_ADDRESS, context);
        local
    }

    /// The active control plane, or a failure that says what to do.
    pub(crate) fn active(&self) -> Result<Active<'_>, Failure> {
        const WAY_OUT: &str = "Use `kumactl config control-planes add` to add a Control Plane and make it active";
        if self.current_context.is_empty() {
            return Err(Failure::new(format!("active Control Plane is not set. {WAY_OUT}")));
        }
        let context = self.contexts.iter().find(|context| context.name == self.current_context);
        let found = context.and_then(|context| Some((context, self.control_plane(&context.control_plane)?)));
        let Some((context, control_plane)) = found else {
            return Err(Failure::new(format!("apparently, configuration is broken. {WAY_OUT}"))
                .note(format!("the current context {:?} leads to no Control Plane", self.current_context)));
        };
        Ok(Active {
            name: &control_plane.name,
            address: &control_plane.coordinates.api_server.url,
            admin_api: context
                .credentials
                .as_ref()
                .and_then(|credentials| credentials.admin_api.as_ref())
                .filter(|api| !api.is_empty()),
        })
    }

    /// The control plane of that name.
    pub(crate) fn control_plane(&self, name: &str) -> Option<&ControlPlane> {
        self.control_planes.iter().find(|control_plane| control_plane.name == name)
    }

    /// Adds or replaces the context and its control plane, and makes it the active one.
    pub(crate) fn put(&mut self, address: &str, context: Context) {
        let api_server = ApiServer { url: address.to_owned() };
        let control_plane =
            ControlPlane { coordinates: Coordinates { api_server }, name: context.control_plane.clone() };
        self.current_context = context.name.clone();
        match self.control_planes.iter_mut().find(|found| found.name == control_plane.name) {
            Some(found) => *found = control_plane,
            None => self.control_planes.push(control_plane),
        }
        match self.contexts.iter_mut().find(|found| found.name == context.name) {
            Some(found) => *found = context,
            None => self.contexts.push(context),
        }
    }

    /// Removes a control plane and its contexts. If it was active, the first of the others becomes active. `false` if
    /// there is none of that name.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.control_planes.len();
        self.control_planes.retain(|control_plane| control_plane.name != name);
        if self.control_planes.len() == before {
            return false;
        }
        self.contexts.retain(|context| context.control_plane != name);
        if !self.contexts.iter().any(|context| context.name == self.current_context) {
            self.current_context = self.contexts.first().map(|context| context.name.clone()).unwrap_or_default();
        }
        true
    }

    /// Makes a control plane the active one. `false` if there is none of that name.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        if self.control_plane(name).is_none() {
            return false;
        }
        let of_it = |context: &&Context| context.control_plane == name;
        let context = self
            .contexts
            .iter()
            .filter(of_it)
            .find(|context| context.name == name)
            .or_else(|| self.contexts.iter().find(of_it));
        self.current_context = match context {
            Some(context) => context.name.clone(),
            None => {
                self.contexts.push(Context {
                    control_plane: name.to_owned(),
                    name: name.to_owned(),
                    ..Context::default()
                });
                name.to_owned()
            }
        };
        true
    }
}

/// Reads the address of an HTTP API: an absolute `http` or `https` URL; without a port it is the scheme's own.
pub(crate) fn parse_address(address: &str) -> Result<Url, String> {
    let url = Url::parse(address).map_err(|error| format!("{address:?} is not an absolute URL: {error}"))?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) if !url.username().is_empty() || url.password().is_some() => {
            Err("the address must not hold a user name or password".to_owned())
        }
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(format!("{address:?} is not an absolute URL that begins with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[&str]) -> Configuration {
        let mut configuration = Configuration::default();
        for name in names {
            let context = Context { control_plane: (*name).to_owned(), name: (*name).to_owned(), ..Context::default() };
            configuration.put(&format!("http://{name}:5681"), context);
        }
        configuration
    }

    #[test]
    fn the_last_one_added_is_active() {
        let configuration = with(&["one", "two", "one"]);
        assert_eq!(configuration.active().expect("it is set").address, "http://one:5681");
        assert_eq!(configuration.control_planes.len(), 2);
        assert_eq!(configuration.contexts.len(), 2);
    }

    #[test]
    fn removing_the_active_one_activates_the_first_left() {
        let mut configuration = with(&["one", "two", "three"]);
        assert!(configuration.remove("three"));
        assert_eq!(configuration.current_context, "one");
        assert!(configuration.remove("two"));
        assert_eq!(configuration.current_context, "one");
        assert!(configuration.remove("one"));
        assert_eq!(configuration, Configuration::default());
        assert!(!configuration.remove("one"));
        assert!(configuration.active().is_err());
    }

    #[test]
    fn switching_finds_or_makes_a_context() {
        let mut configuration = with(&["one", "two"]);
        configuration.contexts.retain(|context| context.name != "one");
        assert!(configuration.switch("one"));
        assert_eq!(configuration.active().expect("it is set").name, "one");
        configuration.contexts[1].name = "other".to_owned();
        assert!(configuration.switch("two"));
        assert!(configuration.switch("one"));
        assert_eq!(configuration.current_context, "other");
        assert!(!configuration.switch("three"));
    }

    #[test]
    fn addresses() {
        for address in ["http://localhost:5681", "https://cp.example.com", "http://[::1]:5681/", "http://host/below"] {
            assert!(parse_address(address).is_ok(), "{address}");
        }
        for address in ["", "localhost:5681", "/path", "ftp://host", "http://", "http://user:secret@host"] {
            let error = parse_address(address).expect_err(address);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
