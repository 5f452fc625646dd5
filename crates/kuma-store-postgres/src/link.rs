//! A connection that is made anew whenever it breaks, and calls on it, each with a deadline.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join3;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Error};

use crate::config::PostgresConfig;
use crate::connect::{Driver, connect};
use crate::failure::{Failure, describe};

/// How long a call waits for its answer, or for a connection.
pub(crate) const DEADLINE: Duration = Duration::from_secs(6);

/// The server gives a statement up a second before we give up the connection.
pub(crate) fn statement_limit(deadline: Duration) -> Duration {
    deadline.saturating_sub(Duration::from_secs(1))
}

/// Pauses between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What all links to one server know of it.
pub(crate) struct Health {
    /// Since when it has not answered.
    silent_since: Mutex<Option<Instant>>,
    /// Counts up when every connection is to be given up.
    resets: watch::Sender<u64>,
}

impl Health {
    pub(crate) fn new() -> Health {
        Health { silent_since: Mutex::default(), resets: watch::Sender::new(0) }
    }

    fn well(&self) {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn silent(&self, since: Instant) {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(since);
    }

    /// Until when it is worth to wait for a connection: in a long outage, calls fail at once.
    fn patience(&self) -> Instant {
        let silent_since = *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        silent_since.unwrap_or_else(Instant::now) + DEADLINE
    }

    /// Every connection is given up and made anew, maybe to another server.
    fn reset(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }
}

#[derive(Clone)]
enum State {
    Down(Arc<str>),
    Up(Arc<Client>),
}

/// Is told the payload of each notification.
pub(crate) type OnNotification = Arc<dyn Fn(&str) + Send + Sync>;

/// A connection that is made anew whenever it breaks.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    health: Arc<Health>,
    /// Held for reading by what sends a whole transaction at once, and for writing by what sends one in steps.
    steps: Arc<RwLock<()>>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Begins to connect.
    pub(crate) fn start(config: Arc<PostgresConfig>, health: Arc<Health>, heard: OnNotification) -> Link {
        let (sender, state) = watch::channel(State::Down("not connected yet".into()));
        let task = tokio::spawn(keep_up(config, health.clone(), sender, heard));
        Link { state, health, steps: Arc::default(), task }
    }

    /// The connection, as soon as there is one.
    async fn client(&self) -> Result<Arc<Client>, Failure> {
        let mut state = self.state.clone();
        let is_up = |state: &State| matches!(state, State::Up(client) if !client.is_closed());
        if let Ok(Ok(state)) = timeout_at(self.health.patience(), state.wait_for(is_up)).await
            && let State::Up(client) = &*state
        {
            return Ok(client.clone());
        }
        match &*self.state.borrow() {
            State::Down(reason) => Err(Failure::Lost(reason.to_string())),
            State::Up(_) => Err(Failure::Lost("the connection was closed".into())),
        }
    }

    /// Ends when there is a connection other than the one before.
    pub(crate) async fn reconnected(&self, before: Option<&Arc<Client>>) -> Arc<Client> {
        let mut state = self.state.clone();
        let is_new = |state: &State| match (state, before) {
            (State::Up(client), Some(before)) => !Arc::ptr_eq(client, before),
            (State::Up(_), None) => true,
            (State::Down(_), _) => false,
        };
        if let Ok(state) = state.wait_for(is_new).await
            && let State::Up(client) = &*state
        {
            return client.clone();
        }
        // The task has ended, with the link.
        std::future::pending().await
    }

    /// Runs what sends all that it has to say at once.
    pub(crate) async fn call<T>(
        &self,
        deadline: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let client = self.client().await?;
        let work = async {
            let _shared = self.steps.read().await;
            work(&client).await
        };
        self.watched(started, deadline, work).await
    }

    /// The connection for one caller alone, who may keep a transaction open on it.
    pub(crate) async fn alone(&self) -> Result<Alone, Failure> {
        let client = self.client().await?;
        match timeout(DEADLINE, self.steps.clone().write_owned()).await {
            Ok(guard) => Ok(Alone { client, _guard: guard }),
            Err(_) => Err(Failure::Late),
        }
    }

    /// Waits for the answer of the server, and gives the connections up if there is none or it is the wrong server.
    pub(crate) async fn watched<T>(
        &self,
        started: Instant,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = timeout(deadline, work).await.unwrap_or(Err(Failure::Late));
        match &answer {
            Ok(_) => self.health.well(),
            Err(Failure::Late) => {
                self.health.silent(started);
                self.health.reset();
            }
            Err(failure) if failure.has_code(&SqlState::READ_ONLY_SQL_TRANSACTION) => self.health.reset(),
            Err(_) => {}
        }
        answer
    }

    /// The server is not the one that takes writes any more.
    pub(crate) fn is_wrong_server(&self) {
        self.health.reset();
    }
}

/// A connection that nobody else uses meanwhile.
pub(crate) struct Alone {
    pub(crate) client: Arc<Client>,
    _guard: OwnedRwLockWriteGuard<()>,
}

/// Sends `BEGIN` with settings, the work and `COMMIT` at once, and waits for all answers. The work must send all that
/// it has to say when it is first polled.
pub(crate) async fn transaction<T>(
    client: &Client,
    begin: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    let (begun, answer, committed) = join3(client.batch_execute(begin), work, client.batch_execute("COMMIT")).await;
    // The first error says what is wrong: those after it only that there was one.
    begun?;
    let answer = answer?;
    committed?;
    Ok(answer)
}

async fn keep_up(config: Arc<PostgresConfig>, health: Arc<Health>, state: watch::Sender<State>, heard: OnNotification) {
    let mut resets = health.resets.subscribe();
    let mut pause = Duration::ZERO;
    loop {
        sleep(pause).await;
        resets.mark_unchanged();
        match connect(&config).await {
            Ok((client, connection)) => {
                health.well();
                let since = Instant::now();
                state.send_replace(State::Up(Arc::new(client)));
                let ended = tokio::select! {
                    ended = drive(connection, &heard) => ended,
                    _ = resets.changed() => "PostgreSQL did not answer in time, or takes no writes".into(),
                };
                health.silent(Instant::now());
                state.send_replace(State::Down(ended.into()));
                // After a restart the server is there at once; one that throws us out is left alone for a moment.
                pause = if since.elapsed() > PAUSES.1 { Duration::ZERO } else { PAUSES.0 };
            }
            Err(reason) => {
                health.silent(Instant::now());
                state.send_replace(State::Down(reason.into()));
                pause = (pause * 2).clamp(PAUSES.0, PAUSES.1).mul_f64(rand::random_range(0.75..=1.25));
            }
        }
    }
}

/// Moves bytes for as long as the connection lives, and says why it ended.
async fn drive(mut connection: Driver, heard: &OnNotification) -> String {
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => heard(notification.payload()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return describe(&error),
            None => return "the connection was closed".into(),
        }
    }
}
