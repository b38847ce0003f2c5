//! Bodies that end when their connection does: answers with the status OK, questions with no further one.
//!
//! What is ready goes out first, so nothing is lost of an answer that is complete; only what would be waited for, which is
//! to say a stream's next message, is not waited for any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::HeaderValue;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::codegen::StdError;

use super::question::{Asked, Opened, Question};

/// An answer. Ends with OK as soon as it would have to be waited for after the end was called.
pub(super) struct AnswerEnding {
    answer: tonic::body::Body,
    end: End,
    is_over: bool,
    counted: Counted,
}

/// As what a call counts until its answer is gone.
pub(super) enum Counted {
    /// As one that is not answered.
    Call(Asked),
    /// As a push stream.
    Stream(#[expect(dead_code, reason = "counts for as long as it lives")] Opened),
    /// As none: it was refused.
    Not,
}

/// A client's questions. There are no more as soon as they would have to be waited for after the end was called.
pub(super) struct QuestionsEnding {
    questions: Question,
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
    pub(super) fn new(answer: tonic::body::Body, end: CancellationToken, counted: Counted) -> Self {
        Self { answer, end: End::Called(end), is_over: false, counted }
    }

    /// The call was refused after it was answered in part.
    fn refusal(&self) -> Option<HeaderMap> {
        let Counted::Call(asked) = &self.counted else { return None };
        let mut trailers = HeaderMap::new();
        asked.refusal()?.add_header(&mut trailers).ok()?;
        Some(trailers)
    }
}

impl QuestionsEnding {
    pub(super) fn new(questions: Question, end: CancellationToken) -> Self {
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
        if let Poll::Ready(Some(Ok(last))) = &frame
            && last.is_trailers()
            && let Some(refusal) = self.refusal()
        {
            return Poll::Ready(Some(Ok(Frame::trailers(refusal))));
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
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.questions).poll_frame(context);
        if frame.is_pending() && self.end.poll(context).is_ready() { Poll::Ready(None) } else { frame }
    }
}
