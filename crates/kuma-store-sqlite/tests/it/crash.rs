//! A process that is killed while it writes: what it was told is stored is there, and nothing is there by half.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuma_store::{Keep, Store as _, StoreError, Write};
use kuma_store_sqlite::check;

use crate::scene::{FileStore, Folder, Random, key, put, put_mesh, put_secret, setting, try_open};

/// The file that a child is to write to.
const STORE: &str = "KUMA_TEST_STORE";
/// What the names of its documents begin with.
const PREFIX: &str = "KUMA_TEST_PREFIX";
/// Tasks of a child that commit at the same time.
const WRITERS: usize = 4;

/// What a child was told: for each writer, its last number.
pub(crate) type Acknowledged = BTreeMap<String, u64>;

/// A process that commits as fast as it can: this test program, with one test.
pub(crate) struct Writer(Child);

impl Writer {
    pub(crate) fn start(path: &Path, prefix: &str) -> Writer {
        Writer::start_with(path, prefix, &[])
    }

    /// Starts one with further variables in its environment.
    pub(crate) fn start_with(path: &Path, prefix: &str, env: &[(&str, &str)]) -> Writer {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env(STORE, path)
            .env(PREFIX, prefix)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn();
        Writer(child.expect("it starts"))
    }

    /// Kills it after its first commits and this time. Returns what it has acknowledged.
    pub(crate) fn kill(mut self, after: Duration) -> Acknowledged {
        let lines = BufReader::new(self.0.stdout.take().expect("a pipe")).lines();
        let mut acknowledged = Acknowledged::new();
        let mut kill_at = None;
        for line in lines {
            // The last line may be half written.
            let line = line.expect("text");
            let Some((name, n)) = acknowledgement(&line) else { continue };
            acknowledged.insert(name, n);
            if Instant::now() >= *kill_at.get_or_insert_with(|| Instant::now() + after) {
                self.0.kill().expect("killed");
            }
        }
        self.0.wait().expect("ended");
        acknowledged
    }
}

/// Writer and number in a line of a child, if it is whole.
pub(crate) fn acknowledgement(line: &str) -> Option<(String, u64)> {
    let (name, n) = line.strip_prefix("stored ")?.strip_suffix('.')?.split_once(' ')?;
    Some((name.to_owned(), n.parse().expect("a number")))
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Commits two documents with one number, again and again, and prints each number once it is stored.
#[test]
#[ignore = "is what the processes run that other tests kill"]
fn child() {
    let path = PathBuf::from(std::env::var_os(STORE).expect(STORE));
    let prefix = std::env::var(PREFIX).expect(PREFIX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(try_open(&path, None).await.expect("opens"));
        commit_at_last(&store, || vec![put_mesh()]).await;
        for writer in 0..WRITERS {
            let (store, name) = (store.clone(), format!("{prefix}{writer}"));
            tokio::spawn(async move {
                let stored = store.get(&key(&format!("{name}-a"))).await.expect("read");
                let mut n = stored.and_then(|stored| stored.spec()["text"].as_u64()).unwrap_or_default();
                loop {
                    n += 1;
                    commit_at_last(&store, || vec![put(&format!("{name}-a"), n), put(&format!("{name}-b"), n)]).await;
                    writeln!(std::io::stdout(), "stored {name} {n}.").expect("somebody reads");
                }
            });
        }
        // All that happens to a file happens beside the commits, again and again.
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let secret = format!("{:?}", Instant::now());
            commit_at_last(&store, || vec![put_secret(&secret)]).await;
            prune(&store).await;
        }
    });
}

/// Commits, again and again while the store cannot be written.
async fn commit_at_last(store: &FileStore, writes: impl Fn() -> Vec<Write>) {
    while let Err(error) = store.commit(writes()).await {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn prune(store: &FileStore) {
    use kuma_store::Journal as _;
    match store.journal().prune(Keep { age: Duration::ZERO, commits: 20 }).await {
        Ok(_) | Err(StoreError::Unavailable { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Compares what is stored with what was acknowledged. Returns what is stored, from which the next child goes on.
pub(crate) async fn compare(path: &Path, acknowledged: &Acknowledged) -> Acknowledged {
    let mut stored = Acknowledged::new();
    let report = check(path).unwrap_or_else(|error| panic!("{error}"));
    let store = try_open(path, None).await.expect("opens");
    assert_eq!(store.head(), report.head);
    for (name, n) in acknowledged {
        let [a, b] = ["a", "b"].map(|half| key(&format!("{name}-{half}")));
        let (a, b) = (store.get(&a).await.expect("read"), store.get(&b).await.expect("read"));
        let (a, b) = (a.expect("it was stored"), b.expect("it was stored"));
        assert_eq!(a.spec(), b.spec(), "one commit wrote both");
        // One more may have been on its way.
        let found = a.spec()["text"].as_u64().expect("a number");
        assert!([*n, n + 1].contains(&found), "{name}: {found} after {n}");
        stored.insert(name.clone(), found);
    }
    store.close().await;
    stored
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_was_told_is_stored() {
    let folder = Folder::new();
    let mut random = Random(14);
    let mut last = Acknowledged::new();
    for round in 0..setting("KUMA_TEST_ROUNDS", 15) {
        let writer = Writer::start(&folder.database(), "w");
        let acknowledged = writer.kill(Duration::from_micros(random.below(120_000)));
        assert!(!acknowledged.is_empty(), "round {round}");
        last.extend(acknowledged);
        last = compare(&folder.database(), &last).await;
    }
}
