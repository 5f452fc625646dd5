//! Finds Envoy's executable.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The places where a program may be.
pub(crate) struct Places {
    /// The variable PATH.
    pub(crate) path: Option<OsString>,
    /// The directory of kuma-dp's own executable: releases have both programs in one directory.
    pub(crate) beside: Option<PathBuf>,
    /// The current directory.
    pub(crate) current: Option<PathBuf>,
    /// Whether an Envoy in it is taken that nobody has named. Not for root: others may have put it there.
    pub(crate) takes_current: bool,
}

impl Places {
    /// Those of this process.
    pub(crate) fn here() -> Places {
        Places {
            path: std::env::var_os("PATH"),
            beside: std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())),
            current: std::env::current_dir().ok(),
            takes_current: !rustix::process::geteuid().is_root(),
        }
    }

    /// Looks for what is configured (a path, or a name to find in PATH), then for `envoy` next to kuma-dp, then for
    /// `envoy` in the current directory, unless root runs it.
    ///
    /// # Errors
    /// It is in none of these places. The message names all of them.
    pub(crate) fn find(&self, configured: &Path) -> anyhow::Result<PathBuf> {
        let is_name = configured.components().count() == 1 && !configured.has_root() && !has_slash(configured);
        let asked_for: Vec<PathBuf> = if is_name {
            let path = self.path.clone().unwrap_or_default();
            // An empty entry of PATH means the current directory, which comes last here.
            std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(configured)).collect()
        } else {
            vec![self.current.as_deref().unwrap_or(Path::new("")).join(configured)]
        };
        let current = if self.takes_current { &self.current } else { &None };
        let others: Vec<PathBuf> = [&self.beside, current].into_iter().flatten().map(|dir| dir.join("envoy")).collect();
        if let Some(found) = asked_for.iter().find(|path| is_executable(path)) {
            return Ok(found.clone());
        }
        if let Some(found) = others.iter().find(|path| is_executable(path)) {
            if !is_name || configured != Path::new("envoy") {
                tracing::warn!("there is no program {}; using {}", configured.display(), found.display());
            }
            return Ok(found.clone());
        }
        let places: Vec<String> = asked_for.iter().chain(&others).map(|path| path.display().to_string()).collect();
        anyhow::bail!(
            "could not find binary in any of the following paths: {}. Install Envoy there, or name it with \
             --binary-path (KUMA_DATAPLANE_RUNTIME_BINARY_PATH)",
            places.join(", ")
        )
    }
}

/// Whether it is a path rather than a name. `./envoy` is a path, although `Path` gives it one component.
fn has_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'/')
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates the files and looks for `configured` among them.
    fn find(executables: &[&str], configured: &str) -> Result<String, String> {
        find_as(executables, configured, true)
    }

    fn find_as(executables: &[&str], configured: &str, takes_current: bool) -> Result<String, String> {
        let root = tempfile::tempdir().unwrap();
        for dir in ["bin1", "bin2", "beside", "cwd/sub"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for file in executables {
            let path = root.path().join(file.trim_start_matches('!'));
            fs::write(&path, "").unwrap();
            let mode = if file.starts_with('!') { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let places = Places {
            path: Some(std::env::join_paths([root.path().join("bin1"), root.path().join("bin2"), "".into()]).unwrap()),
            beside: Some(root.path().join("beside")),
            current: Some(root.path().join("cwd")),
            takes_current,
        };
        let configured = configured.replace("ROOT", root.path().to_str().unwrap());
        let shown = |text: String| text.replace(root.path().to_str().unwrap(), "ROOT");
        match places.find(Path::new(&configured)) {
            Ok(found) => Ok(shown(found.display().to_string())),
            Err(error) => Err(shown(error.to_string())),
        }
    }

    #[test]
    fn order_of_places() {
        for (executables, configured, found) in [
            (&["bin1/envoy", "bin2/envoy", "beside/envoy"][..], "envoy", "ROOT/bin1/envoy"),
            (&["!bin1/envoy", "bin2/envoy"], "envoy", "ROOT/bin2/envoy"),
            (&["beside/envoy", "cwd/envoy"], "envoy", "ROOT/beside/envoy"),
            (&["cwd/envoy"], "envoy", "ROOT/cwd/envoy"),
            (&["bin1/envoy", "bin2/envoy-debug"], "envoy-debug", "ROOT/bin2/envoy-debug"),
            (&["bin1/envoy", "cwd/sub/envoy"], "ROOT/cwd/sub/envoy", "ROOT/cwd/sub/envoy"),
            (&["bin1/envoy", "cwd/envoy"], "./envoy", "ROOT/cwd/./envoy"),
            (&["cwd/sub/e"], "sub/e", "ROOT/cwd/sub/e"),
            (&["beside/envoy"], "ROOT/gone/envoy", "ROOT/beside/envoy"),
        ] {
            assert_eq!(find(executables, configured).as_deref(), Ok(found), "{configured} among {executables:?}");
        }
    }

    #[test]
    fn root_takes_no_envoy_of_the_current_directory_that_nobody_has_named() {
        assert!(find_as(&["cwd/envoy"], "envoy", false).is_err());
        assert_eq!(find_as(&["beside/envoy", "cwd/envoy"], "envoy", false).as_deref(), Ok("ROOT/beside/envoy"));
        assert_eq!(find_as(&["cwd/envoy"], "./envoy", false).as_deref(), Ok("ROOT/cwd/./envoy"));
    }

    #[test]
    fn a_miss_names_every_place() {
        assert_eq!(
            find(&["!cwd/envoy"], "envoy").unwrap_err(),
            "could not find binary in any of the following paths: ROOT/bin1/envoy, ROOT/bin2/envoy, ROOT/beside/envoy, \
             ROOT/cwd/envoy. Install Envoy there, or name it with --binary-path (KUMA_DATAPLANE_RUNTIME_BINARY_PATH)"
        );
        assert!(find(&[], "/nowhere/envoy").unwrap_err().contains("paths: /nowhere/envoy, ROOT/beside/envoy"));
    }
}
