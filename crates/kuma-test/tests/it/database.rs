//! A PostgreSQL server with a database for control planes.

use std::net::Ipv4Addr;

use kuma_store_postgres::testing::{PASSWORD, Server};

pub(crate) struct Database {
    pub(crate) server: Server,
    pub(crate) name: String,
    port: String,
}

impl Database {
    pub(crate) fn new() -> Database {
        Database::with(&[])
    }

    /// One whose server has these lines in its configuration.
    pub(crate) fn with(settings: &[&str]) -> Database {
        let server = Server::start(settings);
        let (name, port) = (server.database().db_name, server.port().to_string());
        Database { server, name, port }
    }

    /// Lets in whoever knows the password from this address.
    pub(crate) fn admit(&self, address: Ipv4Addr) {
        let path = self.server.data().join("pg_hba.conf");
        let text = std::fs::read_to_string(&path).expect("a list of who may connect");
        std::fs::write(&path, format!("{text}host all all {address}/32 scram-sha-256\n")).expect("written");
        self.server.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// The variables of a control plane that uses it.
    pub(crate) fn env(&self) -> [(&str, &str); 4] {
        self.env_of(&self.name)
    }

    /// The variables of a control plane that uses another database of the server.
    pub(crate) fn env_of<'a>(&'a self, name: &'a str) -> [(&'a str, &'a str); 4] {
        [
            ("KUMA_STORE_TYPE", "postgres"),
            ("KUMA_STORE_POSTGRES_PORT", &self.port),
            ("KUMA_STORE_POSTGRES_PASSWORD", PASSWORD),
            ("KUMA_STORE_POSTGRES_DB_NAME", name),
        ]
    }

    /// Makes a copy of it, or an empty one.
    pub(crate) fn make(&self, name: &str, template: Option<&str>) {
        let template = template.map_or(String::new(), |template| format!(" TEMPLATE \"{template}\""));
        self.server.alone(&self.name, &[format!("CREATE DATABASE \"{name}\" OWNER kuma{template}")]);
    }

    /// Puts another database in its place, with its name.
    pub(crate) fn replace_by(&self, other: &str) {
        let name = &self.name;
        self.server.alone(
            &self.name,
            &[
                format!("ALTER DATABASE \"{name}\" RENAME TO \"before {other}\""),
                format!("ALTER DATABASE \"{other}\" RENAME TO \"{name}\""),
                format!("ALTER DATABASE \"before {other}\" WITH ALLOW_CONNECTIONS true"),
            ],
        );
    }
}

/// A number from the environment: small in the suite, larger in a soak.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
