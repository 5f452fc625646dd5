//! Sends the records of one collector over a TCP connection, which is opened again when it breaks.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::WARNING_INTERVAL;
use super::buffer::Buffer;
use crate::backoff::Backoff;

/// How long connecting to a collector may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of one write.
const CHUNK: usize = 64 << 10;
/// Delay of the first warning about dropped records, so that it counts more than one.
const WARNING_DELAY: Duration = Duration::from_secs(1);
/// How long the records of a log that has been removed are kept for a collector that is away.
const LINGER: Duration = Duration::from_secs(60);

/// Sends the buffered records, until the buffer is closed and empty.
pub(super) async fn send(address: String, buffer: Arc<Buffer>) {
    tokio::select! {
        () = deliver(&address, &buffer) => {}
        () = warn_of_drops(&address, &buffer) => {}
    }
    let (left, dropped) = (buffer.len(), buffer.take_dropped());
    if left > 0 || dropped > 0 {
        let lost = left as u64 + dropped;
        tracing::warn!(
            "access logs for {address}: {lost} records are lost, since the log has ended and they could not be sent"
        );
    }
}

async fn deliver(address: &str, buffer: &Buffer) {
    let mut backoff = Backoff::new();
    // Whether it was warned that the collector is away.
    let mut away = false;
    let mut closed_since = None;
    while buffer.filled().await {
        let error = match connect(address).await {
            Ok(connection) => {
                if away {
                    // Dropped records that were already reported are not counted again.
                    let (waited, dropped) = (buffer.len(), buffer.take_dropped());
                    tracing::warn!(
                        "access logs: the collector {address} is back; {waited} records are buffered, and {dropped} \
                        more were dropped"
                    );
                }
                away = false;
                match transfer(connection, buffer, &mut backoff).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !away {
            away = true;
            tracing::warn!("access logs: the collector {address} is away: {error}. Records are buffered");
        }
        if buffer.is_closed() && closed_since.get_or_insert_with(Instant::now).elapsed() > LINGER {
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT_LIMIT:?}"))),
    }
}

/// Writes records until the buffer is closed and empty. After an error, records that were not written completely stay
/// in the buffer, and are sent again on the next connection.
async fn transfer(connection: TcpStream, buffer: &Buffer, backoff: &mut Backoff) -> io::Result<()> {
    let (mut reading, mut writing) = connection.into_split();
    loop {
        let more = tokio::select! {
            // The end of the connection is checked first: the system accepts writes to a closed connection and loses
            // them.
            biased;
            error = ended(&mut reading) => return Err(error),
            more = buffer.filled() => more,
        };
        if !more {
            return writing.shutdown().await;
        }
        let chunk = buffer.oldest(CHUNK);
        let (written, result) = write(&mut writing, &chunk.bytes).await;
        buffer.taken(&chunk, written);
        result?;
        backoff.reset();
    }
}

/// Waits for the end of the connection. Data from the collector is read and ignored.
async fn ended(reading: &mut OwnedReadHalf) -> io::Error {
    let mut ignored = [0; 1024];
    loop {
        match reading.read(&mut ignored).await {
            Ok(0) => return io::Error::new(io::ErrorKind::ConnectionAborted, "it closed the connection"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Writes all bytes. Returns how many were accepted, also after an error.
async fn write(writing: &mut OwnedWriteHalf, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match writing.write(&bytes[written..]).await {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Warns how many records were dropped, at most once per interval.
async fn warn_of_drops(address: &str, buffer: &Buffer) {
    loop {
        buffer.overflowed().await;
        tokio::time::sleep(WARNING_DELAY).await;
        let dropped = buffer.take_dropped();
        tracing::warn!(
            "access logs: {dropped} records for {address} were dropped, since the collector is away or too slow and \
             the buffer is full"
        );
        tokio::time::sleep(WARNING_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn lines(connection: &mut TcpStream, count: usize) -> String {
        let mut text = String::new();
        while text.lines().count() < count {
            let mut bytes = [0; 4096];
            let read = connection.read(&mut bytes).await.expect("readable");
            assert!(read > 0, "ended after {text:?}");
            text.push_str(std::str::from_utf8(&bytes[..read]).expect("UTF-8"));
        }
        text
    }

    #[tokio::test]
    async fn records_wait_for_a_collector_that_is_away_and_arrive_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let buffer = Arc::new(Buffer::default());
        let sending = tokio::spawn(send(address.clone(), buffer.clone()));

        buffer.push("one\n".into());
        let (mut connection, _) = listener.accept().await.expect("a connection");
        assert_eq!(lines(&mut connection, 1).await, "one\n");
        // The collector goes away while nothing is sent: the next records must not be written to the closed connection.
        drop((connection, listener));
        tokio::time::sleep(Duration::from_millis(100)).await;
        buffer.push("two\n".into());
        buffer.push("three\n".into());

        let listener = TcpListener::bind(&address).await.expect("the port again");
        let (mut connection, _) = listener.accept().await.expect("a connection");
        assert_eq!(lines(&mut connection, 2).await, "two\nthree\n");
        buffer.push("four\n".into());
        buffer.close();
        let mut rest = String::new();
        connection.read_to_string(&mut rest).await.expect("readable");
        assert_eq!(rest, "four\n");
        sending.await.expect("it ends when all is sent");
    }

    #[tokio::test]
    async fn a_collector_that_does_not_read_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let buffer = Arc::new(Buffer::default());
        let sending = tokio::spawn(send(listener.local_addr().expect("an address").to_string(), buffer.clone()));
        let (_connection, _) = async {
            buffer.push("x\n".into());
            listener.accept().await.expect("a connection")
        }
        .await;
        let record: Box<str> = "x".repeat(1 << 10).into();
        for _ in 0..100_000 {
            buffer.push(record.clone());
            tokio::task::yield_now().await;
        }
        assert!(buffer.take_dropped() > 0, "100 MB fit into a buffer of 4 MB");
        sending.abort();
    }
}
