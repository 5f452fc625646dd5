//! `kuma-cp store`.

use std::path::Path;
use std::process::{Command, Output};

use kuma_cp::state_folder::FolderLock;
use kuma_model::{Document, Key};
use kuma_store::{JournaledStore, Options, Store as _, Write};
use kuma_store_sqlite::SqliteJournal;
use serde_json::json;

/// Runs it for the control plane with this state folder.
fn store(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_kuma-cp"))
        .arg("store")
        .args(arguments)
        .env_clear()
        .env("KUMA_GENERAL_WORK_DIR", folder)
        .current_dir(folder.parent().expect("a folder"))
        .output();
    command.expect("it runs")
}

fn ended(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A store with one more mesh. Returns its last revision.
async fn write(path: &Path, mesh: &str) -> u64 {
    let journal = SqliteJournal::open(path).expect("opens");
    let store = JournaledStore::open(journal, Options::default()).await.expect("opens");
    let put = Write::Put(Document { key: Key::mesh(mesh), spec: json!({}) });
    let revision = store.commit(vec![put]).await.expect("stored").revision;
    store.close().await;
    revision
}

#[tokio::test]
async fn a_store_is_checked_copied_and_restored() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path().join("state");
    let file = folder.join("store.db");
    let missing = format!("Error: {} does not exist\n", file.display());
    assert_eq!(ended(&store(&folder, &["check"])), (Some(1), "", missing.as_str()));

    write(&file, "first").await;
    let copied = store(&folder, &["backup", "copy.db"]);
    let (code, told, _) = ended(&copied);
    assert_eq!(code, Some(0), "{copied:?}");
    assert!(told.starts_with(&format!("copy.db is a backup of {}.\nStore ", file.display())), "{told}");
    assert!(told.ends_with("revision 1\n1 documents, history from revision 0 on\n"), "{told}");
    let again = store(&folder, &["backup", "copy.db"]);
    let exists = "Error: copy.db exists already; choose another name, or move it away\n";
    assert_eq!(ended(&again), (Some(1), "", exists));

    assert_eq!(write(&file, "second").await, 2);
    let (checked, restored) = (store(&folder, &["check"]), store(&folder, &["restore", "copy.db"]));
    assert!(ended(&checked).1.contains("is whole.\n") && ended(&checked).1.contains("revision 2\n2 documents"));
    assert!(ended(&restored).1.contains(" was restored from copy.db.\n"), "{restored:?}");
    assert!(ended(&restored).1.ends_with("store.db.replaced; it holds keys, too.\n"), "{restored:?}");
    assert!(ended(&store(&folder, &["check"])).1.contains("revision 1\n1 documents"));
    assert!(ended(&store(&folder, &["check", "state/store.db.replaced"])).1.contains("revision 2\n2 documents"));
}

#[tokio::test]
async fn a_store_in_use_is_not_replaced() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, file) = (temp.path().join("state"), temp.path().join("state/store.db"));
    write(&file, "first").await;
    assert_eq!(ended(&store(&folder, &["backup", "copy.db"])).0, Some(0));
    write(&file, "second").await;
    let lock = FolderLock::beside(&file).expect("nobody else has it");
    let refused = store(&folder, &["restore", "copy.db"]);
    let process = std::process::id();
    let expected = format!("Error: {}: another kuma-cp (process {process}) uses it; stop it first\n", file.display());
    assert_eq!(ended(&refused), (Some(1), "", expected.as_str()));
    // To look is harmless.
    assert!(ended(&store(&folder, &["check"])).1.contains("revision 2\n"));
    drop(lock);
    assert_eq!(ended(&store(&folder, &["restore", "copy.db"])).0, Some(0));
}

#[tokio::test]
async fn a_damaged_store_has_an_exit_code_of_its_own() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, file) = (temp.path().join("state"), temp.path().join("state/store.db"));
    write(&file, "first").await;
    let mut bytes = std::fs::read(&file).expect("read");
    let name = bytes.windows(5).rposition(|part| part == b"first").expect("its name");
    bytes[name] = b'F';
    std::fs::write(&file, &bytes).expect("written");
    for arguments in [&["check"][..], &["backup", "copy.db"], &["check", "state/store.db"]] {
        let damaged = store(&folder, arguments);
        let (code, told, error) = ended(&damaged);
        assert_eq!((code, told), (Some(3), ""), "{error}");
        assert!(error.contains("store.db is damaged: "), "{error}");
    }
    assert!(!temp.path().join("copy.db").exists());
}
