//! A push stream on its way out: counted while it is open, ended with OK when its connection ends, counted by how it ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use tonic::{Code, Status};

use super::telemetry::Call;
use crate::incoming::connection::StreamsEnd;

/// The stream that tonic gets. Dropped before its end, its call counts as cancelled: the client left.
pub(crate) struct ToldStream<T> {
    messages: BoxStream<'static, Result<T, Status>>,
    open: Option<Call>,
}

impl<T: 'static> ToldStream<T> {
    /// `end` is absent where there is no connection of ours, as when a test calls the service itself.
    pub(super) fn new(
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
        call: Call,
        end: Option<StreamsEnd>,
    ) -> Self {
        let messages = match end {
            Some(StreamsEnd(end)) => messages.take_until(end.cancelled_owned()).boxed(),
            None => messages.boxed(),
        };
        Self { messages, open: Some(call) }
    }
}

impl<T> Stream for ToldStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(self.messages.poll_next_unpin(context));
        let ended = match &message {
            Some(Ok(_)) => None,
            Some(Err(status)) => Some(status.code()),
            None => Some(Code::Ok),
        };
        if let Some(code) = ended
            && let Some(call) = self.open.take()
        {
            call.end(code);
        }
        Poll::Ready(message)
    }
}
