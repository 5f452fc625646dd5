//! Dependencies are not older than the versions in which known vulnerabilities were mended. The advisory database
//! cannot be reached everywhere; these are its floors of August 2026 for what is used here.

use std::path::Path;

const FLOORS: [(&str, [u64; 3]); 12] = [
    ("h2", [0, 4, 16]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("aws-lc-sys", [0, 39, 0]),
    ("ring", [0, 17, 12]),
    ("tokio", [1, 44, 2]),
    ("tokio-postgres", [0, 7, 18]),
    ("postgres-protocol", [0, 6, 12]),
    ("tracing-subscriber", [0, 3, 20]),
    ("jsonwebtoken", [10, 3, 0]),
    ("protobuf", [3, 7, 2]),
    ("quick-xml", [0, 41, 0]),
];

/// What has a vulnerability and no mended version, or is not maintained.
const BANNED: [&str; 4] = ["rsa", "rustls-pemfile", "serde_yml", "yaml-rust"];

#[test]
fn no_dependency_is_older_than_its_last_known_vulnerability() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock");
    let value = |line: &str, field: &str| {
        Some(line.strip_prefix(field)?.strip_prefix(" = \"")?.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").filter_map(|package| {
        let name = package.lines().find_map(|line| value(line, "name"))?;
        let version = package.lines().find_map(|line| value(line, "version"))?;
        Some((name, version))
    });
    let mut checked = 0;
    for (name, version) in packages {
        assert!(!BANNED.contains(&name.as_str()), "{name}");
        let Some((_, floor)) = FLOORS.iter().find(|(of, _)| *of == name) else { continue };
        let release = version.split(['-', '+']).next().unwrap_or_default();
        let parts: Vec<u64> = release.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(parts.as_slice() >= floor.as_slice(), "{name} {version} is older than {floor:?}");
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} of them were found");
}
