//! Bodies that end when their connection does: answers with the status OK, questions with no further one.
//!
//! What is ready goes out first, so nothing is lost of an answer that is complete; only what would be waited for, which is
//! to say a stream's next message, is not waited for any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::question::Asked;

/// An answer. Ends with OK as soon as it would have to be waited for after the end was called.
pub(super) struct AnswerEnding {
    answer: tonic::body::Body,
    end: End,
    is_over: bool,
    /// The call counts as one that is not answered until this body is gone.
    _asked: Option<Asked>,
}

/// A client's questions. There are no more as soon as they would have to be waited for after the end was called.
pub(super) struct QuestionsEnding {
    questions: Incoming,
    end: End,
}

/// Waits for the end of a connection; most answers are complete before anybody has to.
enum End {
    Called(CancellationToken),
    Awaited(Pin<Box<WaitForCancellationFutureOwned>>),
}

impl End {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Called(token) = self {
            *self = Self::Awaited(Box::pin(token.clone().cancelled_owned()));
        }
        match self {
            Self::Awaited(called) => called.as_mut().poll(context),
            Self::Called(_) => unreachable!("it was replaced just now"),
        }
    }
}

impl AnswerEnding {
    pub(super) fn new(answer: tonic::body::Body, end: CancellationToken, asked: Option<Asked>) -> Self {
        Self { answer, end: End::Called(end), is_over: false, _asked: asked }
    }
}

impl QuestionsEnding {
    pub(super) fn new(questions: Incoming, end: CancellationToken) -> Self {
        Self { questions, end: End::Called(end) }
    }
}

impl Body for AnswerEnding {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut self.answer).poll_frame(context);
        if frame.is_pending() && self.end.poll(context).is_ready() {
            self.is_over = true;
            // Lets go of what the stream holds at once.
            self.answer = tonic::body::Body::empty();
            let ok = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
            return Poll::Ready(Some(Ok(Frame::trailers(ok))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Body for QuestionsEnding {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.questions).poll_frame(context);
        if frame.is_pending() && self.end.poll(context).is_ready() { Poll::Ready(None) } else { frame }
    }
}
