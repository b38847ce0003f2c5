//! What calls may take up until they are answered: their number, the bytes of their heads and messages, and the time that a
//! message takes to arrive.
//!
//! HTTP/2 lets one connection begin a hundred thousand calls and finish none, or let their answers wait. KEDA's calls come
//! whole and their answers are taken at once; what goes beyond these limits is refused with `RESOURCE_EXHAUSTED`, so that it
//! is never memory that runs out. Owns the counts of all connections.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::time::Sleep;
use tonic::Status;

/// Most calls at a time whose answers have not gone out, push streams left out, which have a cap of their own. While Service
/// Bus stalls a call waits for 3 s: so many are there with 10,000 triggers that all ask twice in 15 s, and some more.
const MAX_CALLS: usize = 5_000;
/// Most bytes of their heads and messages together. KEDA's have less than one KiB each.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The counts of all connections. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Questions(Arc<Counts>);

struct Counts {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    arrival_deadline: Duration,
}

/// A call whose answer has not gone out. Counts until the last clone is dropped.
#[derive(Clone)]
pub(super) struct Asked(Arc<Share>);

struct Share {
    questions: Questions,
    bytes: AtomicUsize,
}

impl Questions {
    /// None yet. A message that has not arrived within this deadline is not waited for any more.
    pub(crate) fn new(arrival_deadline: Duration) -> Self {
        Self(Arc::new(Counts { calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0), arrival_deadline }))
    }

    /// A call with this head came; `None` if there are too many.
    pub(super) fn ask(&self, path: &str, head: &HeaderMap) -> Option<Asked> {
        if !take(&self.0.calls, 1, MAX_CALLS) {
            return None;
        }
        // From here on given back by `Share`.
        let asked = Asked(Arc::new(Share { questions: self.clone(), bytes: AtomicUsize::new(0) }));
        let fields = head.iter().map(|(name, value)| name.as_str().len() + value.len());
        asked.grow(path.len() + fields.sum::<usize>()).then_some(asked)
    }
}

/// Whether so much more stays within the limit; then it is counted.
fn take(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let within = |count: usize| count.checked_add(more).filter(|sum| *sum <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

/// How a call is refused that would be one too many.
pub(super) fn too_many() -> Status {
    Status::resource_exhausted(format!(
        "too much is asked at a time: this scaler takes {MAX_CALLS} calls and {MAX_BYTES} bytes of their heads and messages"
    ))
}

impl Asked {
    /// Whether there is room for so many bytes more of this call.
    fn grow(&self, bytes: usize) -> bool {
        let Share { questions, bytes: own } = &*self.0;
        let has_room = take(&questions.0.bytes, bytes, MAX_BYTES);
        if has_room {
            own.fetch_add(bytes, Ordering::Relaxed);
        }
        has_room
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let counts = &*self.questions.0;
        counts.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        counts.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call's message on its way in.
pub(super) struct Question<B = Incoming> {
    message: B,
    asked: Asked,
    /// Most messages are there when they are first looked for, and need none.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Question<B> {
    pub(super) fn new(message: B, asked: Asked) -> Self {
        Self { message, asked, deadline: None }
    }
}

impl<B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin> Body for Question<B> {
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.message).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(if self.asked.grow(bytes) { Ok(frame) } else { Err(too_many().into()) }))
            }
            Poll::Ready(Some(Err(problem))) => Poll::Ready(Some(Err(problem.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let most = self.asked.0.questions.0.arrival_deadline;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
                deadline.as_mut().poll(context).map(|()| {
                    let text = format!("the call's message did not arrive within {most:?}");
                    Some(Err(Status::deadline_exceeded(text).into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio::time::Instant;

    use super::*;

    const ARRIVAL_DEADLINE: Duration = Duration::from_secs(5);

    fn ask(questions: &Questions) -> Option<Asked> {
        questions.ask("/", &HeaderMap::new())
    }

    #[test]
    fn calls_and_their_bytes_have_a_limit_and_are_given_back() {
        let questions = Questions::new(ARRIVAL_DEADLINE);
        let mut open: Vec<_> = (0..MAX_CALLS).map_while(|_| ask(&questions)).collect();
        assert_eq!(open.len(), MAX_CALLS);
        assert!(ask(&questions).is_none(), "one too many");
        open.pop();
        let last = ask(&questions).expect("a place was given back");
        drop(open);
        assert!(last.grow(MAX_BYTES - 1), "the path took a byte");
        assert!(!last.grow(1));
        let mut head = HeaderMap::new();
        head.insert("x", "y".parse().expect("a value"));
        assert!(questions.ask("/", &head).is_none(), "heads count too");
        drop(last);
        assert!(questions.ask("/", &head).is_some());
        let counts = &questions.0;
        assert_eq!(
            (counts.calls.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed)),
            (0, 0),
            "nothing is left"
        );
    }

    #[tokio::test]
    async fn a_message_counts_while_it_comes_and_is_refused_beyond_the_limit() {
        let questions = Questions::new(ARRIVAL_DEADLINE);
        let asked = ask(&questions).expect("the first");
        let body = Question::new(Full::new(Bytes::from_static(b"12345")), asked.clone());
        assert_eq!(body.collect().await.expect("it has room").to_bytes().as_ref(), b"12345");
        assert_eq!(questions.0.bytes.load(Ordering::Relaxed), 6, "until it is answered");
        assert!(asked.grow(MAX_BYTES - 8));
        let refused = Question::new(Full::new(Bytes::from_static(b"123")), asked).collect().await.expect_err("no room");
        assert_eq!(Status::from_error(refused).code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_arrive_is_not_waited_for() {
        let asked = ask(&Questions::new(ARRIVAL_DEADLINE)).expect("the first");
        let begun = Instant::now();
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>());
        let refused = Question::new(never, asked).collect().await.expect_err("it never comes");
        assert_eq!(Status::from_error(refused).code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed(), ARRIVAL_DEADLINE);
    }
}
