//! A shell script in place of Envoy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kuma_test::eventually;

/// A body that ends at SIGTERM, as Envoy does.
pub(crate) const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
/// A body that ignores SIGTERM.
pub(crate) const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.02; done";

pub(crate) struct FakeEnvoy {
    folder: PathBuf,
}

impl FakeEnvoy {
    /// Writes a script that records its arguments and environment, and then runs `body`.
    pub(crate) fn new(parent: &Path, body: &str) -> FakeEnvoy {
        let folder = parent.join("fake");
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            r#"#!/bin/sh
if [ "$1" = --version ]; then echo "envoy  version: 0/1.40.0/Clean/RELEASE/BoringSSL"; exit 0; fi
here=$(dirname "$0")
printf '%s\n' "$@" > "$here/arguments"
echo "this is Envoy speaking"
echo $$ > "$here/pid.new" && mv "$here/pid.new" "$here/pid"
{body}
"#
        );
        let envoy = FakeEnvoy { folder };
        fs::write(envoy.path(), script).unwrap();
        fs::set_permissions(envoy.path(), fs::Permissions::from_mode(0o755)).unwrap();
        envoy
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("envoy")
    }

    /// Waits until it runs, and returns its process id.
    pub(crate) async fn started(&self) -> u32 {
        eventually("Envoy is started", || async {
            fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok()
        })
        .await
    }

    pub(crate) fn has_started(&self) -> bool {
        self.folder.join("pid").exists()
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("arguments")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
