//! What calls may take up until they are answered, and push streams until they end: their number, the bytes of their heads and
//! messages, and the time that a message takes to arrive.
//!
//! HTTP/2 lets one connection begin a hundred thousand calls and finish none, or let their answers wait. KEDA's calls come
//! whole and their answers are taken at once; what goes beyond these limits is refused with `RESOURCE_EXHAUSTED`, so that it
//! is never memory that runs out. Owns the counts of all connections.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
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
/// Most bytes of the same of open push streams: what is kept for a stream is about as large as what it was opened with. Enough
/// for as many streams as there may be, with more than a KiB each.
const MAX_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// The counts of all connections. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Questions(Arc<Counts>);

struct Counts {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    stream_bytes: AtomicUsize,
    arrival_deadline: Duration,
}

/// A call whose answer has not gone out. Counts until the last clone is dropped.
#[derive(Clone)]
pub(super) struct Asked(Arc<Share>);

struct Share {
    questions: Questions,
    bytes: AtomicUsize,
    /// Why no more is taken of a client that asks on: who answers it ends with OK then.
    refusal: OnceLock<Status>,
}

/// An open push stream. Counts until it is dropped.
pub(super) struct Opened {
    questions: Questions,
    bytes: usize,
}

impl Questions {
    /// None yet. A message that has not arrived within this deadline is not waited for any more.
    pub(crate) fn new(arrival_deadline: Duration) -> Self {
        let (calls, bytes, stream_bytes) = Default::default();
        Self(Arc::new(Counts { calls, bytes, stream_bytes, arrival_deadline }))
    }

    /// A call with this head came; `None` if there are too many.
    pub(super) fn ask(&self, path: &str, head: &HeaderMap) -> Option<Asked> {
        if !take(&self.0.calls, 1, MAX_CALLS) {
            return None;
        }
        // From here on given back by `Share`.
        let asked =
            Asked(Arc::new(Share { questions: self.clone(), bytes: AtomicUsize::new(0), refusal: OnceLock::new() }));
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
        "too much is asked at a time: this scaler takes {MAX_CALLS} calls and {MAX_BYTES} bytes of their heads and messages, \
         {MAX_STREAM_BYTES} bytes of those of push streams"
    ))
}

impl Asked {
    /// Whether there is room for so many bytes more of this call.
    fn grow(&self, bytes: usize) -> bool {
        let Share { questions, bytes: own, .. } = &*self.0;
        let has_room = take(&questions.0.bytes, bytes, MAX_BYTES);
        if has_room {
            own.fetch_add(bytes, Ordering::Relaxed);
        }
        has_room
    }

    /// The call is an open push stream from here on, if there is room for what it was opened with.
    pub(super) fn opened(self) -> Option<Opened> {
        let Share { questions, bytes, .. } = &*self.0;
        let bytes = bytes.load(Ordering::Relaxed);
        let has_room = take(&questions.0.stream_bytes, bytes, MAX_STREAM_BYTES);
        has_room.then(|| Opened { questions: questions.clone(), bytes })
    }

    /// Why the call's answer is not to end with OK, if that is so.
    pub(super) fn refusal(&self) -> Option<&Status> {
        self.0.refusal.get()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.questions.0.stream_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
    /// Whether its client may ask again, whenever it likes.
    asks_on: bool,
    is_due: bool,
    /// Most messages are there when they are first looked for, and need none.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Question<B> {
    pub(super) fn new(message: B, asked: Asked) -> Self {
        Self { message, asked, asks_on: false, is_due: true, deadline: None }
    }

    /// The messages of a client that asks on. The deadline is for the first of them.
    pub(super) fn asking_on(message: B, asked: Asked) -> Self {
        Self { asks_on: true, ..Self::new(message, asked) }
    }

    fn refused(&self, status: Status) -> tonic::codegen::StdError {
        if self.asks_on {
            self.asked.0.refusal.get_or_init(|| status.clone());
        }
        status.into()
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
                self.is_due &= !self.asks_on;
                Poll::Ready(Some(if self.asked.grow(bytes) { Ok(frame) } else { Err(self.refused(too_many())) }))
            }
            Poll::Ready(Some(Err(problem))) => Poll::Ready(Some(Err(problem.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if !self.is_due => Poll::Pending,
            Poll::Pending => {
                let most = self.asked.0.questions.0.arrival_deadline;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
                deadline.as_mut().poll(context).map(|()| {
                    let text = format!("the call's message did not arrive within {most:?}");
                    Some(Err(self.refused(Status::deadline_exceeded(text))))
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
    use std::pin::pin;

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

    #[test]
    fn what_an_open_stream_came_with_counts_until_it_ends_and_not_as_a_call() {
        let questions = Questions::new(ARRIVAL_DEADLINE);
        let large = || {
            let asked = ask(&questions).expect("a call has room");
            assert!(asked.grow(MAX_STREAM_BYTES / 4));
            asked.opened()
        };
        // The path takes a byte of each.
        let open: Vec<_> = (0..4).filter_map(|_| large()).collect();
        assert_eq!(open.len(), 3);
        assert_eq!((questions.0.calls.load(Ordering::Relaxed), questions.0.bytes.load(Ordering::Relaxed)), (0, 0));
        drop(open);
        assert_eq!(questions.0.stream_bytes.load(Ordering::Relaxed), 0, "nothing is left");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_on_may_take_time_after_the_first_question() {
        let asked = ask(&Questions::new(ARRIVAL_DEADLINE)).expect("the first");
        let question = async |wait: u32| {
            tokio::time::sleep(ARRIVAL_DEADLINE * wait / 2).await;
            Some((Ok::<_, Status>(Frame::data(Bytes::from_static(b"12345"))), 10))
        };
        let questions = futures_util::stream::unfold(1, question);
        let mut body = pin!(Question::asking_on(StreamBody::new(Box::pin(questions)), asked.clone()));
        for _ in 0..3 {
            body.frame().await.expect("it goes on").expect("it is taken");
        }
        assert!(asked.grow(MAX_BYTES - 20));
        body.frame().await.expect("an answer").expect_err("no room");
        assert_eq!(asked.refusal().map(Status::code), Some(tonic::Code::ResourceExhausted));
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
