//! The store over a journal: computes commits in memory, and tells of them when the journal has them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use kuma_model::{DataplaneInsight, Document, Key, Resource as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::changelog::{ChangeLog, HISTORY_CHANGES, HISTORY_COMMITS};
use crate::insights::merge;
use crate::journal::{Appended, InsightRow, Journal, Keep, Loaded, SECRETS_KEPT, Since};
use crate::replica::{Evaluation, Replica, in_microseconds};
use crate::transaction::{Documents, is_insight};
use crate::{
    Change, Commit, Committed, Contents, Gap, Head, HistoryPage, HistoryQuery, Moment, PAGE_LIMIT, Peer, Proposal,
    Revision, Store, StoreError, StoreFuture, Stored,
};

/// Most proposals that are written at once.
const GROUP: usize = 256;

/// How often a group is computed anew because another process was faster. The journal lets everybody have a turn, so
/// that this many defeats in a row mean that something is wrong.
const ATTEMPTS: usize = 20;

/// How long a read waits to learn what other processes have written. After it the read is answered from what is known.
const FRESH_WITHIN: Duration = Duration::from_secs(2);

/// Pause between a commit and the removal of history that need not be kept.
const PRUNE_AFTER: Duration = Duration::from_secs(60);

/// What a [`JournaledStore`] has to know.
pub struct Options {
    /// Identifies this process among those that write insights.
    pub instance: Arc<str>,
    /// The store and the commit that an earlier process saw last, if there was one; see [`Contents::complete`].
    pub seen: Option<Head>,
    /// Whether the store was not complete for an earlier process, and is not because this one starts.
    pub was_incomplete: bool,
    /// How much history is kept.
    pub keep: Keep,
    /// Is called when the store turns out to be another or an older one, with the documents that it lacks, or has in
    /// another text, as they were known before.
    pub on_rewound: Box<dyn Fn(Vec<Arc<Stored>>) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Options {
        let instance = Uuid::new_v4().to_string().into();
        Options { instance, seen: None, was_incomplete: false, keep: Keep::default(), on_rewound: Box::new(|_| {}) }
    }
}

/// A store whose documents outlive the process, in a [`Journal`].
///
/// One task talks to the journal about commits; what arrives while it writes is written together. When the last handle
/// is gone the task ends.
pub struct JournaledStore<J> {
    shared: Arc<Shared<J>>,
    orders: mpsc::UnboundedSender<Order>,
}

struct Shared<J> {
    journal: J,
    replica: Mutex<Replica>,
    away: Mutex<Option<Arc<str>>>,
    /// The processes that were alive at the last heartbeat; unknown before the first.
    alive: Mutex<Option<BTreeSet<Arc<str>>>>,
    options: Options,
}

enum Order {
    Propose(Proposal, oneshot::Sender<Result<Committed, StoreError>>),
    /// Learn what others have written.
    CatchUp(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

impl<J: Journal> JournaledStore<J> {
    /// Reads everything. It has to be called in a runtime of tokio.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn open(journal: J, options: Options) -> Result<JournaledStore<J>, StoreError> {
        let Loaded { head, documents } = journal.load().await?;
        let complete = !options.was_incomplete && is_complete(&journal, head, options.seen).await?;
        let documents = documents.into_iter().map(|stored| (stored.key.clone(), stored)).collect();
        let log = ChangeLog::new(head.position.revision, HISTORY_COMMITS, HISTORY_CHANGES);
        let replica = Mutex::new(Replica::new(head, documents, complete, log));
        let shared = Arc::new(Shared { journal, replica, away: Mutex::default(), alive: Mutex::default(), options });
        let (orders, received) = mpsc::unbounded_channel();
        // What is old at the start goes, too.
        let prune_at = Instant::now() + PRUNE_AFTER;
        tokio::spawn(Writer { shared: shared.clone(), uncertain: false, prune_at }.run(received));
        Ok(JournaledStore { shared, orders })
    }

    /// Writes what is on its way, and leaves the journal in order. Later calls fail.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.orders.send(Order::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }

    /// The journal, for what only its kind has.
    pub fn journal(&self) -> &J {
        &self.shared.journal
    }

    async fn order<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Order,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let closed = || StoreError::Unavailable { reason: "it is closed".into() };
        self.orders.send(make(answer)).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Waits until this process knows what others had written when it was called, if they can be asked.
    async fn fresh(&self) {
        if self.shared.journal.is_shared() && self.away().is_none() {
            // Reads go on while the journal is away.
            let _ = timeout(FRESH_WITHIN, self.order(Order::CatchUp)).await;
        }
    }

    async fn insights(&self, mesh: Option<&str>, name: Option<&str>) -> Vec<Arc<Stored>> {
        match self.shared.journal.insights(mesh.map(Arc::from), name.map(Arc::from)).await {
            Ok(rows) => merge(rows, |instance| self.shared.is_alive(instance)),
            Err(error) => {
                tracing::warn!(%error, "what proxies have reported to earlier or other control planes is not shown");
                Vec::new()
            }
        }
    }
}

/// Whether the journal has everything that was ever in it, as far as this machine knows.
async fn is_complete(journal: &impl Journal, head: Head, seen: Option<Head>) -> Result<bool, StoreError> {
    Ok(match seen {
        // Somebody else filled it, and this process joins.
        None => head.position.revision > 0,
        Some(seen) if seen.store != head.store => false,
        Some(seen) => journal.since(seen.position).await? != Since::Rewound,
    })
}

impl<J: Journal> Shared<J> {
    fn replica(&self) -> MutexGuard<'_, Replica> {
        // Commits are evaluated on the side; a panic in one leaves the state as it was.
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the streams that are open in what a process has reported may still be open.
    fn is_alive(&self, instance: &str) -> bool {
        if !self.journal.is_shared() {
            return *instance == *self.options.instance;
        }
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.as_ref().is_none_or(|alive| alive.contains(instance))
    }

    /// Notes whether the journal answers, and says so when that changes.
    fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let now = answer.as_ref().err().and_then(StoreError::away).map(Arc::from);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*away, &now) {
            (None, Some(reason)) => {
                tracing::error!(%reason, "the store is away: documents can be read and not be written");
            }
            (Some(_), None) => tracing::info!("the store is back"),
            _ => {}
        }
        *away = now;
        answer
    }

    /// Takes over what others have appended.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let position = self.replica().head().position;
        match self.heard(self.journal.since(position).await)? {
            Since::Commits(commits) => self.apply(commits),
            Since::Behind => self.reload(Gap::Behind).await?,
            Since::Rewound => self.reload(Gap::Rewound).await?,
        }
        Ok(())
    }

    fn apply(&self, commits: Vec<Arc<Commit>>) {
        if !commits.is_empty() {
            let mut replica = self.replica();
            commits.into_iter().for_each(|commit| replica.apply(commit));
        }
    }

    async fn reload(&self, cause: Gap) -> Result<(), StoreError> {
        let Loaded { head, documents } = self.heard(self.journal.load().await)?;
        let documents: Documents = documents.into_iter().map(|stored| (stored.key.clone(), stored)).collect();
        if cause == Gap::Rewound {
            let known = self.replica().contents();
            let is_there = |stored: &Arc<Stored>| {
                documents.get(&stored.key).is_some_and(|found| found.spec_text() == stored.spec_text())
            };
            tracing::error!(
                known = known.revision,
                found = head.position.revision,
                "the store is not the one that it was: commits that were made are not in it. Nothing is taken from \
                 proxies because it is missing there, until `kumactl store accept`"
            );
            (self.options.on_rewound)(known.documents.into_iter().filter(|stored| !is_there(stored)).collect());
        }
        self.replica().replace(head, documents, cause);
        Ok(())
    }
}

/// The one task that appends.
struct Writer<J> {
    shared: Arc<Shared<J>>,
    /// An append has failed, and it is not known yet whether its commits are there.
    uncertain: bool,
    /// When history that need not be kept is removed.
    prune_at: Instant,
}

impl<J: Journal> Writer<J> {
    async fn run(mut self, mut received: mpsc::UnboundedReceiver<Order>) {
        let shared = self.shared.clone();
        let mut orders = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                count = received.recv_many(&mut orders, GROUP) => {
                    let closed = self.serve(orders.drain(..)).await;
                    if count == 0 || !closed.is_empty() {
                        shared.journal.close().await;
                        closed.into_iter().for_each(|closed| { let _ = closed.send(()); });
                        return;
                    }
                }
                () = shared.journal.changed_by_others() => { let _ = self.catch_up().await; }
                () = sleep_until(self.prune_at) => {
                    // A secret that was replaced a moment ago is kept until then, though nothing else is committed.
                    self.prune_at = Instant::now() + SECRETS_KEPT;
                    let shared = shared.clone();
                    // On the side, so that nobody waits for it.
                    tokio::spawn(async move {
                        if let Err(error) = shared.journal.prune(shared.options.keep).await {
                            tracing::warn!(%error, "old history could not be removed");
                        }
                    });
                }
            }
        }
    }

    /// Returns whom to tell that everything is closed.
    async fn serve(&mut self, orders: impl Iterator<Item = Order>) -> Vec<oneshot::Sender<()>> {
        let (mut proposals, mut answers, mut readers, mut closed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Propose(proposal, answer) => {
                    proposals.push(proposal);
                    answers.push(answer);
                }
                Order::CatchUp(reader) => readers.push(reader),
                Order::Close(done) => closed.push(done),
            }
        }
        if !readers.is_empty() {
            let caught_up = self.catch_up().await;
            readers.into_iter().for_each(|reader| {
                let _ = reader.send(caught_up.clone());
            });
        }
        if !proposals.is_empty() {
            let made = match self.commit(&proposals).await {
                Ok(made) => made,
                Err(error) => vec![Err(error); proposals.len()],
            };
            answers.into_iter().zip(made).for_each(|(answer, made)| {
                let _ = answer.send(made);
            });
        }
        closed
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        self.shared.catch_up().await?;
        self.uncertain = false;
        Ok(())
    }

    /// One answer for each proposal, or one for all if the journal cannot be written.
    async fn commit(&mut self, proposals: &[Proposal]) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        if self.uncertain {
            self.catch_up().await?;
        }
        // Whether there is nothing to write, or something to refuse, is decided by what all have written.
        let mut is_fresh = !self.shared.journal.is_shared();
        for _ in 0..ATTEMPTS {
            let (base, Evaluation { commits, answers }) = {
                let replica = self.shared.replica();
                (replica.head().position, replica.evaluate(proposals, self.shared.journal.now()))
            };
            if commits.len() < proposals.len() && !is_fresh {
                self.catch_up().await?;
                is_fresh = true;
                continue;
            }
            if commits.is_empty() {
                return Ok(answers);
            }
            match self.shared.heard(self.shared.journal.append(base, commits.clone()).await) {
                Ok(Appended::Done) => {
                    self.shared.apply(commits);
                    self.prune_at = self.prune_at.min(Instant::now() + PRUNE_AFTER);
                    return Ok(answers);
                }
                Ok(Appended::Overtaken) => {
                    self.catch_up().await?;
                    is_fresh = true;
                }
                Err(error) => {
                    self.uncertain = true;
                    // If the journal works again, it tells whether they were written. All were, or none.
                    let is_there = self.catch_up().await.is_ok() && self.shared.replica().has(&commits);
                    return if is_there { Ok(answers) } else { Err(error) };
                }
            }
        }
        Err(StoreError::Unavailable { reason: format!("others were faster {ATTEMPTS} times in a row") })
    }
}

impl<J: Journal> Store for JournaledStore<J> {
    fn propose(&self, proposal: Proposal) -> StoreFuture<'_, Committed> {
        Box::pin(self.order(|answer| Order::Propose(proposal, answer)))
    }

    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Arc<Stored>>> {
        Box::pin(async move {
            if is_insight(key) {
                return Ok(self.insights(Some(&key.mesh), Some(&key.name)).await.pop());
            }
            self.fresh().await;
            Ok(self.shared.replica().get(key))
        })
    }

    fn list<'a>(&'a self, kind: &'static str, mesh: Option<&'a str>) -> StoreFuture<'a, Vec<Arc<Stored>>> {
        Box::pin(async move {
            if kind == DataplaneInsight::KIND {
                return Ok(self.insights(mesh, None).await);
            }
            self.fresh().await;
            Ok(self.shared.replica().list(kind, mesh))
        })
    }

    fn read_all(&self) -> StoreFuture<'_, Contents> {
        Box::pin(async {
            self.fresh().await;
            Ok(self.shared.replica().contents())
        })
    }

    fn changes(&self, since: Revision) -> BoxStream<'static, Change> {
        self.shared.replica().log().changes(since)
    }

    fn generation(&self) -> u64 {
        self.shared.replica().log().generation()
    }

    fn put_insights(&self, insights: Vec<Document>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if let Some(other) = insights.iter().find(|document| !is_insight(&document.key)) {
                return Err(StoreError::NotAnInsight(other.key.clone()));
            }
            let modified = in_microseconds(self.shared.journal.now());
            let mut rows: Vec<InsightRow> = insights
                .into_iter()
                .map(|Document { key, spec }| InsightRow {
                    key,
                    instance: self.shared.options.instance.clone(),
                    modified,
                    spec: spec.to_string().into(),
                })
                .collect();
            // In one order for all who write, so that no two wait for each other. The last of two is the one to keep.
            rows.reverse();
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            rows.dedup_by(|a, b| a.key == b.key);
            if rows.is_empty() { Ok(()) } else { self.shared.journal.put_insights(rows).await }
        })
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if let Some(other) = keys.iter().find(|key| !is_insight(key)) {
                return Err(StoreError::NotAnInsight(other.clone()));
            }
            self.shared.journal.remove_insights(keys).await
        })
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        Box::pin(async move {
            self.fresh().await;
            // The journal may have a commit that is not known to last: its disk has failed to sync it.
            let known = self.head().position.revision + 1;
            let before = Some(query.before.map_or(known, |before| before.min(known)));
            let query = HistoryQuery { before, limit: query.limit.min(PAGE_LIMIT), ..query };
            self.shared.journal.history(query).await
        })
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, Contents> {
        Box::pin(async move {
            self.fresh().await;
            let known = self.head().position.revision;
            let (mut revision, mut documents) = self.shared.journal.at(moment).await?;
            if revision > known {
                // As above.
                (revision, documents) = self.shared.journal.at(Moment::Revision(known)).await?;
            }
            let generation = self.generation();
            Ok(Contents { revision, documents, complete: true, generation })
        })
    }

    fn head(&self) -> Head {
        self.shared.replica().head()
    }

    fn epoch(&self) -> Arc<str> {
        self.shared.replica().epoch()
    }

    fn is_complete(&self) -> bool {
        self.shared.replica().is_complete()
    }

    fn accept(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.shared.replica().accept();
            Ok(())
        })
    }

    fn is_shared(&self) -> bool {
        self.shared.journal.is_shared()
    }

    fn heartbeat(&self, about: String) -> StoreFuture<'_, Vec<Peer>> {
        Box::pin(async move {
            let peers = self.shared.journal.heartbeat(&self.shared.options.instance, &about).await?;
            let alive = peers.iter().filter(|peer| peer.is_alive).map(|peer| peer.instance.clone()).collect();
            *self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(alive);
            Ok(peers)
        })
    }

    fn lease(&self, what: &'static str) -> StoreFuture<'_, bool> {
        self.shared.journal.lease(what, &self.shared.options.instance)
    }

    fn away(&self) -> Option<Arc<str>> {
        self.shared.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn durable(&self) -> bool {
        true
    }
}
