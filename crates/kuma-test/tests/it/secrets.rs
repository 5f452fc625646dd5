//! Secrets are shown nowhere: the test uses secrets of every kind, also in failing operations, and then searches every
//! place that others can see. Files with secrets can only be read by their owner.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// A running system with a secret of every kind.
struct World {
    cp: ControlPlane,
    /// The user's folder, with keys and certificates.
    folder: tempfile::TempDir,
    /// The password of Postgres. It is unique, since the test searches all processes of the machine.
    password: String,
    /// Name and text of each secret.
    secrets: Vec<(String, String)>,
    proxies: [Dataplane; 2],
    _app: Greeter,
}

impl World {
    async fn start() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let files = folder.path().to_owned();
        let path = |name: &str| files.join(name).display().to_string();
        let password = format!("canary-password{}", folder.path().file_name().expect("a name").display());
        let certificates = path("clients");
        fs::create_dir(&certificates).expect("a folder");
        let cp_settings = [
            ("KUMA_STORE_POSTGRES_PASSWORD", password.clone()),
            ("KUMA_ADMIN_SERVER_PUBLIC_ENABLED", "true".to_owned()),
            ("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "127.0.0.1".to_owned()),
            ("KUMA_ADMIN_SERVER_PUBLIC_PORT", free_port().to_string()),
            ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", path("server.pem")),
            ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", path("server.key")),
            ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", certificates.clone()),
        ];
        for (kind, flags) in [("server", "--cp-hostname=127.0.0.1"), ("client", "--mesh=default")] {
            let mut command = std::process::Command::new(kuma_test::program("kumactl"));
            command.args(["generate", "tls-certificate", "--type", kind, flags]).env("HOME", folder.path());
            command.args([&format!("--cert-file={}", path(&format!("{kind}.pem")))]);
            command.args([&format!("--key-file={}", path(&format!("{kind}.key")))]);
            assert!(command.output().expect("kumactl runs").status.success());
        }
        fs::copy(path("client.pem"), format!("{certificates}/client.pem")).expect("copies");
        let (ca, ca_key) = root();
        fs::write(path("ca.pem"), ca).expect("writes");
        fs::write(path("ca.key"), ca_key).expect("writes");

        let variables = cp_settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let cp = ControlPlane::start_logging_all(&variables).await;
        let app = Greeter::start().await;
        let (inbound, outbound) = (free_port(), free_port());
        cp.apply(&mesh("default", true)).await;
        cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
        cp.apply(&dataplane("default", "redis-1", "redis", (inbound, app.port), &[])).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), app.port), &[(outbound, "redis")])).await;
        let proxies = ["redis-1", "web-1"].map(|name| {
            let token = cp.token_file("default", name).display().to_string();
            Dataplane::start_with(&cp, "default", name, &["--log-level", "debug", "--dataplane-token-file", &token])
        });
        eventually("web reaches redis", || Client::connect(outbound)).await;

        let mut world = World { cp, folder, password, secrets: Vec::new(), proxies, _app: app };
        world
            .cp
            .apply(&json!({"type": "Mesh", "name": "other", "mtls": {"enabled": false, "ca": {"builtin": {}}}}))
            .await;
        let files = [format!("--key-file={}", path("ca.key")), format!("--cert-file={}", path("ca.pem"))];
        let add = ["manage", "ca", "provided", "certificates", "add", "--mesh=other", &files[0], &files[1]];
        let added = world.kumactl(&add, "");
        assert!(added.starts_with("exit status: 0"), "{added}");
        world
            .cp
            .apply(&json!({"type": "Mesh", "name": "other", "mtls": {"enabled": true, "ca": {"provided": {}}}}))
            .await;

        world.note("Postgres' password", &world.password.clone());
        for name in ["redis-1", "web-1"] {
            let token = fs::read_to_string(world.cp.folder().join(format!("default.{name}.token"))).expect("a token");
            // The last part is the signature; the others are not secret.
            world.note(&format!("the token of {name}"), token.trim().rsplit('.').next().expect("three parts"));
        }
        let mut files = files_below(&world.cp.folder().join("state"));
        files.extend(["server.key", "client.key", "ca.key"].map(|name| world.folder.path().join(name)));
        for file in files {
            for line in key_lines(&fs::read_to_string(&file).unwrap_or_default()) {
                world.note(&format!("a key of {}", file.display()), &line);
            }
        }
        let names: Vec<&str> = world.secrets.iter().map(|(name, _)| name.as_str()).collect();
        for expected in ["token-signing-key", "xds-ca", "server.key", "client.key", "ca.key"] {
            assert!(names.iter().any(|name| name.contains(expected)), "{expected} is not planted: {names:?}");
        }
        world
    }

    /// Records a secret as it is, and in base64, which Envoy's configuration uses for keys.
    fn note(&mut self, name: &str, secret: &str) {
        self.secrets.push((name.to_owned(), secret.to_owned()));
        for offset in 0..3 {
            let encoded = STANDARD.encode([&b"..."[..offset], secret.as_bytes()].concat());
            // Without the ends, which depend on the adjacent bytes.
            let inner = encoded.get(4..encoded.len() - 4).expect("a secret is long");
            self.secrets.push((format!("{name} in base64"), inner.to_owned()));
        }
    }

    /// The whole output of a command.
    fn kumactl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cp.kumactl(&[&["--log-level", "debug"], arguments].concat(), input);
        format!(
            "{}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// Checks that no secret is in a text.
    fn search(&self, place: &str, text: &str) {
        for (name, secret) in &self.secrets {
            assert!(!text.contains(secret), "{name} is in {place}");
        }
    }
}

/// A root certificate for a provided CA, with its key.
fn root() -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// Characteristic lines of the private keys in a text. The first lines are left out: they begin alike in all keys.
fn key_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for key in text.split("PRIVATE KEY-----").skip(1).step_by(2) {
        // The lines may be those of a file or of a JSON string.
        let key = key.replace("\\n", "\n");
        let body: Vec<&str> = key.lines().filter(|line| line.len() > 30 && !line.contains("-----")).collect();
        lines.extend(body.into_iter().skip(1).take(2).map(str::to_owned));
    }
    lines
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

/// The folder of a running kuma-dp, which holds Envoy's bootstrap.
fn runtime_folder(proxy: &mut Dataplane) -> PathBuf {
    let children = proxy.process().children();
    let lines = children.iter().map(|id| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default());
    let words: Vec<String> = lines.flat_map(|line| line.split('\0').map(str::to_owned).collect::<Vec<_>>()).collect();
    let bootstrap = words.iter().find(|word| word.contains("bootstrap")).expect("Envoy has a bootstrap");
    Path::new(bootstrap).parent().expect("in a folder").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_shows_nowhere() {
    let mut world = World::start().await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");

    // The output of kumactl, of commands that succeed and that fail.
    let client = world.folder.path().join("client").display().to_string();
    let (cert, key) = (format!("--admin-client-cert={client}.pem"), format!("--admin-client-key={client}.key"));
    let address = world.cp.api_url();
    let token = fs::read_to_string(world.cp.folder().join("default.web-1.token")).expect("a token");
    let not_yaml = format!("type: Mesh\nname: [{}", "x");
    let said: Vec<String> = [
        (vec!["config", "control-planes", "add", "--name=tls", "--address", &address, &cert, &key], ""),
        (vec!["config", "view"], ""),
        (vec!["config", "control-planes", "list"], ""),
        (vec!["get", "meshes", "-o", "json"], ""),
        (vec!["inspect", "dataplanes", "-o", "yaml"], ""),
        (vec!["manage", "ca", "provided", "certificates", "list", "--mesh=other"], ""),
        (
            vec![
                "manage",
                "ca",
                "provided",
                "certificates",
                "add",
                "--mesh=other",
                "--key-file=/dev/null",
                "--cert-file=/dev/null",
            ],
            "",
        ),
        (vec!["generate", "dataplane-token", "--name=nobody", "--mesh=none/such"], ""),
        (
            vec![
                "config",
                "control-planes",
                "add",
                "--name=wrong",
                "--address",
                &address,
                &key,
                "--admin-client-cert=/dev/null",
            ],
            "",
        ),
        (vec!["apply"], not_yaml.as_str()),
    ]
    .into_iter()
    .map(|(arguments, input)| world.kumactl(&arguments, input))
    .collect();
    for text in &said {
        world.search("kumactl's output", text);
    }

    // Every page of kuma-cp.
    let api = world.cp.api_url();
    let everything = http.get(format!("{api}/openapi.json")).send().await.expect("an answer");
    let everything: serde_json::Value = everything.json().await.expect("JSON");
    let paths = everything["paths"].as_object().expect("paths");
    assert!(paths.len() > 10);
    let mut urls =
        vec![format!("{}/metrics", world.cp.diagnostics_url()), format!("{}/ready", world.cp.diagnostics_url())];
    for path in paths.keys() {
        for (mesh, name) in [("default", "web-1"), ("other", "none"), ("default", "web-to-redis")] {
            urls.push(format!("{api}{}", path.replace("{mesh}", mesh).replace("{name}", name)));
        }
    }
    urls.extend(["default", "other"].map(|mesh| format!("{api}/meshes/{mesh}")));
    let mut read = 0;
    for url in &urls {
        let answer = http.get(url).send().await.expect("an answer");
        read += usize::from(answer.status().is_success());
        world.search(url, &answer.text().await.expect("a text"));
    }
    assert!(read > 15, "{read} of {} pages are there", urls.len());
    let config = http.get(format!("{api}/config")).send().await.expect("an answer").text().await.expect("a text");
    assert!(config.contains("*****"), "that there is a password may be seen: {config}");

    // Responses to wrong requests: a token in a request is not in the response.
    let admin = world.cp.admin_url();
    let bootstrap = world.cp.bootstrap_url();
    for (url, body) in [
        (format!("{admin}/tokens"), json!({"name": "", "mesh": token})),
        (format!("{admin}/tokens"), json!({"mesh": 1})),
        (format!("{bootstrap}/bootstrap"), json!({"mesh": "default", "name": "web-1"})),
        (format!("{bootstrap}/bootstrap"), json!({"mesh": "none", "name": "web-1"})),
    ] {
        let answer = http.post(&url).header("authorization", &token).body(body.to_string()).send().await;
        let answer = answer.expect("an answer").text().await.expect("a text");
        if body["mesh"] != json!(token) {
            world.search(&url, &answer);
        }
    }
    // A proxy whose token is refused, since its signature is wrong.
    let forged = world.cp.folder().join("forged.token");
    let token = std::fs::read_to_string(world.cp.token_file("default", "web-1")).expect("a token");
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let signature = &signature[..signature.len() / 8 * 4];
    std::fs::write(&forged, format!("{signed}.{signature}")).expect("a file");
    let forged = forged.display().to_string();
    let mut refused = Dataplane::start_with(
        &world.cp,
        "default",
        "web-1",
        &["--log-level", "debug", "--dataplane-token-file", &forged],
    );
    refused.process().prints("wrong signature").await;

    // Logs, and all pages of Envoy.
    world.search("kuma-cp's log", &world.cp.output());
    assert!(world.cp.output().contains("DEBUG"), "it logs all it can");
    world.search("the refused kuma-dp's log", &refused.process().output());
    let mut seen = Vec::new();
    for proxy in &mut world.proxies {
        seen.push(("kuma-dp's log".to_owned(), proxy.process().output()));
        let dump = proxy.config_dump().await;
        assert!(
            dump.contains("inbound:") && dump.contains("identity_cert"),
            "a dump that shows nothing proves nothing"
        );
        assert!(
            !dump.contains("PRIVATE KEY") && !dump.contains(&STANDARD.encode("-----BEGIN PRIVATE")),
            "a key is in it"
        );
        seen.push(("Envoy's configuration".to_owned(), dump));
        for page in [
            "/server_info",
            "/certs",
            "/clusters",
            "/listeners",
            "/stats",
            "/stats/prometheus",
            "/init_dump",
            "/memory",
            "/runtime",
        ] {
            seen.push((page.to_owned(), proxy.admin_page(page).await));
        }
        let folder = runtime_folder(proxy);
        for file in files_below(&folder) {
            if !file.ends_with("token")
                && let Ok(text) = fs::read_to_string(&file)
            {
                seen.push((file.display().to_string(), text));
            }
        }
    }
    // Arguments and environments of all processes.
    let own = world.cp.process().id();
    let mut processes = 0;
    for process in fs::read_dir("/proc").expect("Linux").flatten() {
        for file in ["cmdline", "environ"] {
            // A process may have ended, or belong to another user.
            let Ok(bytes) = fs::read(process.path().join(file)) else { continue };
            processes += 1;
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            if process.path().ends_with(own.to_string()) && file == "environ" {
                // The file in which the user has stored the password.
                assert!(text.contains(&world.password), "nothing is planted");
                text = text.replace(&world.password, "");
            }
            seen.push((process.path().join(file).display().to_string(), text));
        }
    }
    assert!(processes >= 10, "kuma-cp, two kuma-dp and two Envoys at least");
    for (place, text) in &seen {
        world.search(place, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_secrets_is_for_its_owner_alone() {
    let mut world = World::start().await;
    let mode = |path: &Path| fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777;
    let mut folders = vec![world.cp.folder().join("state")];
    for proxy in &mut world.proxies {
        folders.push(runtime_folder(proxy));
    }
    let mut sockets = 0;
    for folder in &folders {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
        let files = files_below(folder);
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
            sockets += usize::from(fs::symlink_metadata(&file).expect("there").file_type().is_socket());
        }
    }
    assert_eq!(sockets, 2, "a socket for the access logs of each proxy");
    for key in ["server.key", "client.key"] {
        assert_eq!(mode(&world.folder.path().join(key)) & 0o177, 0, "{key}");
    }

    // kumactl's configuration, which holds paths of keys.
    let home = tempfile::tempdir().expect("a home");
    let mut command = std::process::Command::new(kuma_test::program("kumactl"));
    let address = world.cp.api_url();
    command.args(["config", "control-planes", "add", "--name=a", "--address", &address]).env("HOME", home.path());
    assert!(command.output().expect("kumactl runs").status.success());
    let config = home.path().join(".kumactl/config");
    assert_eq!((mode(&config), mode(&home.path().join(".kumactl"))), (0o600, 0o700));
}

/// Their memory holds keys and tokens. The hard limit counts as well: the soft one could be raised.
#[tokio::test(flavor = "multi_thread")]
async fn no_program_leaves_a_core_file() {
    let mut cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), app.port), &[])).await;
    let mut proxy = Dataplane::start(&cp, "default", "redis-1");
    proxy.live().await;
    let envoy = proxy.envoy().await;
    for (program, id) in [("kuma-cp", cp.process().id()), ("kuma-dp", proxy.process().id()), ("Envoy", envoy)] {
        let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("its limits");
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        let values: Vec<&str> = cores.split_whitespace().skip(4).take(2).collect();
        assert_eq!(values, ["0", "0"], "{program}: {cores}");
    }
}
