//! Listens, and handles each connection as an echo or as an HTTP request, depending on its first bytes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::http::{self, First, Progress, RequestLine};

/// How long the rest of a request line may take. After that, the connection is an echo.
const UNDECIDED: Duration = Duration::from_secs(2);
/// How long a whole request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a connection is read after the response. Closing it with unread data would reset it, and the client could
/// lose the response.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read at a time.
const CHUNK: usize = 8 << 10;

/// Opens the port on all addresses of the machine, IPv6 and IPv4, or only IPv4 where there is no IPv6.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let bind = |socket: TcpSocket, address: SocketAddr| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    let ipv6 = TcpSocket::new_v6().and_then(|socket| {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        bind(socket, (Ipv6Addr::UNSPECIFIED, port).into())
    });
    match ipv6 {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            bind(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        bound => bound,
    }
}

/// Serves connections without end. An error of a connection is logged and ends that connection only.
pub(crate) async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                // The task is detached: it ends with its connection, or with the program.
                tokio::spawn(async move {
                    eprintln!("{peer} connected");
                    match connection(stream, peer).await {
                        Ok(()) => eprintln!("{peer} closed"),
                        Err(error) => eprintln!("{peer} ended: {error}"),
                    }
                });
            }
            Err(error) => {
                // Most likely there are too many open files, until connections end.
                eprintln!("could not accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    if !read_more(&mut stream, &mut received).await? {
        return Ok(());
    }
    // A client that does not complete its first line in time is treated as an echo.
    let waited = timeout(UNDECIDED, async {
        while http::first(&received) == First::Undecided && read_more(&mut stream, &mut received).await? {}
        io::Result::Ok(())
    });
    if let Ok(Err(error)) = waited.await {
        return Err(error);
    }
    match http::first(&received) {
        First::Request(line) => {
            let RequestLine { method, target, version } = line;
            eprintln!("{peer} {version} {method} {target}");
            let method = method.to_owned();
            answer(stream, received, &method).await
        }
        First::Raw | First::Undecided => echo(stream, &received).await,
    }
}

/// Echoes data until the peer closes its side. If the peer does not read, no more data is read from it.
async fn echo(mut stream: TcpStream, received: &[u8]) -> io::Result<()> {
    stream.write_all(received).await?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&chunk[..n]).await?,
        }
    }
}

/// Reads the rest of a request, within limits, responds with its text, and closes the connection.
async fn answer(mut stream: TcpStream, mut received: Vec<u8>, method: &str) -> io::Result<()> {
    let response = match timeout(REQUEST, rest_of_request(&mut stream, &mut received)).await {
        Ok(length) => match length? {
            Some(length) => http::response("200 OK", &received[..length], method),
            None => http::response("413 Content Too Large", b"the request is longer than this echo takes\n", method),
        },
        Err(_) => http::response("408 Request Timeout", b"the request did not arrive in time\n", method),
    };
    let Ok(sent) = timeout(REQUEST, stream.write_all(&response)).await else {
        return Err(io::ErrorKind::TimedOut.into());
    };
    sent?;
    stream.shutdown().await?;
    let mut unread = vec![0; CHUNK];
    // The client may close the connection, reset it or keep sending: it has its response.
    let _ = timeout(LINGER, async { while stream.read(&mut unread).await.is_ok_and(|n| n > 0) {} }).await;
    Ok(())
}

/// Reads until the request is complete, and returns its length; `None` if it is too large. If the peer closes its side
/// early, the request ends there.
async fn rest_of_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut invited = false;
    loop {
        match http::progress(received) {
            Progress::Complete(length) => return Ok(Some(length)),
            Progress::TooLarge => return Ok(None),
            Progress::Partial { expects_continue } => {
                if expects_continue && !invited {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                    invited = true;
                }
                if !read_more(stream, received).await? {
                    return Ok(Some(received.len()));
                }
            }
        }
    }
}

/// Appends the next data; `false` if the peer has closed its side.
async fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; CHUNK];
    let n = stream.read(&mut chunk).await?;
    received.extend_from_slice(&chunk[..n]);
    Ok(n > 0)
}
