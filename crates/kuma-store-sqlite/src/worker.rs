//! A thread that owns a connection: SQLite waits for the disk, and tasks must not.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kuma_store::StoreError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::database::Database;

/// How long nothing has to happen before the log is worked into the database.
const QUIET: Duration = Duration::from_secs(2);

/// How long an answer may take. A job that takes longer is done nevertheless.
const DEADLINE: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub(crate) fn start(name: &str, mut database: Database) -> std::io::Result<Worker> {
        let (jobs, received) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.into()).spawn(move || {
            loop {
                let next = match database.has_log() {
                    true => received.recv_timeout(QUIET),
                    false => received.recv().map_err(RecvTimeoutError::from),
                };
                match next {
                    Ok(job) => {
                        job(&mut database);
                        database.after_job();
                    }
                    Err(RecvTimeoutError::Timeout) => database.checkpoint(),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            database.close();
        })?;
        Ok(Worker { jobs })
    }

    /// Does something after all that was asked before. It is done also if nobody waits for the answer any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let unavailable = |reason: &str| StoreError::Unavailable { reason: reason.into() };
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |database: &mut Database| {
            let _ = answer.send(job(database));
        });
        self.jobs.send(job).map_err(|_| unavailable("its thread has ended"))?;
        match timeout(DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("its thread has ended")),
            Err(_) => Err(unavailable("the disk does not answer")),
        }
    }
}
