//! The body of any response of the server.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use super::Authority;
use super::ads::AdsBody;
use crate::grpc::{BoxBody, BoxError};
use crate::response::Message;

/// An ADS stream, or the answer of a route.
pub(super) enum ResponseBody<A: Authority> {
    Ads(Box<AdsBody<A>>),
    Other(BoxBody),
}

/// A piece of it.
pub(super) enum Piece {
    Message(Message),
    Bytes(Bytes),
}

impl<A: Authority> Body for ResponseBody<A> {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        match self.get_mut() {
            ResponseBody::Ads(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame.map_data(Piece::Message))))
            }
            ResponseBody::Other(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Ads(_) => false,
            ResponseBody::Other(body) => body.is_end_stream(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Piece::Message(message) => message.remaining(),
            Piece::Bytes(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Piece::Message(message) => message.chunk(),
            Piece::Bytes(bytes) => bytes.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Piece::Message(message) => message.chunks_vectored(slices),
            Piece::Bytes(bytes) => bytes.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Message(message) => message.advance(count),
            Piece::Bytes(bytes) => bytes.advance(count),
        }
    }
}
