//! A control plane that has nothing to do with ours, for tests: one cluster with one endpoint, and a listener.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustc_hash::FxHashMap;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::session::{PREFIX, Variant};
use crate::types::{ApiVersion, Type};
use crate::wire::{all_bytes_fields, bytes_field, put_bytes, put_number, text_field};

/// The cluster, and its endpoints.
const NAME: &str = "backend";

/// How often the file is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Runs until dropped.
pub(crate) struct Stranger {
    pub(crate) address: SocketAddr,
    /// What stands in it is the address of the endpoint.
    pub(crate) file: NamedTempFile,
    server: JoinHandle<()>,
}

impl Stranger {
    /// Starts one. A node of the id `forgotten` is never told of a change.
    pub(crate) async fn start(forgotten: Option<&'static str>) -> std::io::Result<Stranger> {
        let file = NamedTempFile::new()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let path = file.path().to_owned();
        let server = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let path = path.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(tcp).await?;
                    while let Some(accepted) = connection.accept().await {
                        let (request, respond) = accepted?;
                        let endpoint = {
                            let path = path.clone();
                            move || std::fs::read_to_string(&path).unwrap_or_default()
                        };
                        tokio::spawn(serve(request, respond, endpoint, forgotten));
                    }
                    Ok::<(), h2::Error>(())
                });
            }
        });
        Ok(Stranger { address, file, server })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    endpoint: impl Fn() -> String,
    forgotten: Option<&str>,
) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if request.headers().get("authorization").is_some_and(|token| token == "bad") {
        head.headers_mut().insert("grpc-status", HeaderValue::from_static("16"));
        head.headers_mut().insert("grpc-message", HeaderValue::from_static("no such token"));
        respond.send_response(head, true)?;
        return Ok(());
    }
    let api = if request.uri().path().contains(".v2.") { ApiVersion::V2 } else { ApiVersion::V3 };
    let variant = if request.uri().path().contains("Delta") { Variant::Delta } else { Variant::Sotw };
    let mut stream = Answers { api, variant, stream: respond.send_response(head, false)?, sent: FxHashMap::default() };
    let mut requests = request.into_body();
    let mut pending = BytesMut::new();
    let mut node = String::new();
    let mut now = endpoint();
    loop {
        tokio::select! {
            piece = requests.data() => {
                let Some(piece) = piece else { return stream.stream.send_trailers(HeaderMap::new()) };
                let piece = piece?;
                requests.flow_control().release_capacity(piece.len())?;
                pending.extend_from_slice(&piece);
                while let Some(prefix) = pending.first_chunk::<PREFIX>() {
                    let whole = PREFIX + u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                    if pending.len() < whole {
                        break;
                    }
                    let message = pending.split_to(whole);
                    let id = stream.on_request(&message[PREFIX..], &now)?;
                    if !id.is_empty() {
                        node = id;
                    }
                }
            }
            () = tokio::time::sleep(TICK) => {
                let then = std::mem::replace(&mut now, endpoint());
                if then != now && forgotten != Some(&node) && stream.sent.contains_key(&Type::Endpoint) {
                    stream.send(Type::Endpoint, &now)?;
                }
            }
        }
    }
}

struct Answers {
    api: ApiVersion,
    variant: Variant,
    stream: SendStream<Bytes>,
    /// The last nonce of each type.
    sent: FxHashMap<Type, u32>,
}

impl Answers {
    /// Answers whatever is no ACK; the id of the node, if it is said.
    fn on_request(&mut self, message: &[u8], endpoint: &str) -> Result<String, h2::Error> {
        let (node, type_url, names, nonce) = match self.variant {
            Variant::Delta => (1, 2, 3, 6),
            Variant::Sotw => (2, 4, 3, 5),
        };
        let resource_type = Type::from_url(text_field(message, type_url), self.api);
        let named = all_bytes_fields(message, names).any(|name| name == NAME.as_bytes());
        let acks = !text_field(message, nonce).is_empty();
        if let Some(resource_type) = resource_type.filter(|known| !acks && (named || known.is_wildcard())) {
            self.send(resource_type, endpoint)?;
        }
        Ok(text_field(bytes_field(message, node), 1).to_owned())
    }

    fn send(&mut self, resource_type: Type, endpoint: &str) -> Result<(), h2::Error> {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, NAME.as_bytes());
        match resource_type {
            Type::Cluster => {
                // EDS, over ADS.
                put_number(&mut value, 2, 3);
                put_bytes(&mut value, 3, &[0x0a, 2, 0x1a, 0]);
            }
            // Not where addresses stand, but they are found wherever they are.
            Type::Endpoint => put_bytes(&mut value, 4, endpoint.as_bytes()),
            _ => {}
        }
        let type_url = resource_type.url(self.api).as_bytes();
        let mut resource = Vec::new();
        put_bytes(&mut resource, 1, type_url);
        put_bytes(&mut resource, 2, &value);
        if self.variant == Variant::Delta {
            let any = std::mem::take(&mut resource);
            put_bytes(&mut resource, 3, NAME.as_bytes());
            put_bytes(&mut resource, 1, endpoint.as_bytes());
            put_bytes(&mut resource, 2, &any);
        }
        let nonce = self.sent.entry(resource_type).or_default();
        *nonce += 1;
        let mut message = vec![0; PREFIX];
        if self.variant == Variant::Sotw {
            put_bytes(&mut message, 1, endpoint.as_bytes());
        }
        put_bytes(&mut message, 2, &resource);
        put_bytes(&mut message, 4, type_url);
        put_bytes(&mut message, 5, nonce.to_string().as_bytes());
        let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
        message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.stream.send_data(message.into(), false)
    }
}
