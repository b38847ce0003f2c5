//! What went wrong in the library, as far as it can be told. It hides its error types, so only their text is left to read.

use std::error::Error;
use std::time::Duration;

use crate::{ClientError, FailureKind};

/// A failed call. Unlike [`ClientError`] it can be cloned: one broken link fails many calls.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: FailureKind,
    pub(super) what: String,
    /// Whether the link is of no use any more. Everything is, except an answer of the broker.
    pub(super) ends_link: bool,
}

impl Fault {
    pub(super) fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), ends_link: true }
    }

    /// An answer of the broker; the link is in order.
    pub(super) fn answer(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), ends_link: false }
    }

    /// Reads an error of the library.
    pub(super) fn of(doing: &str, error: &dyn Error) -> Self {
        let text = one_line(error);
        let (kind, ends_link) = classify(&text);
        Self { kind, what: format!("failed to {doing}: {text}"), ends_link }
    }
}

impl From<Fault> for ClientError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.what)
    }
}

/// The lock token is of no link that is left.
pub(super) fn not_held() -> Fault {
    Fault::answer(
        FailureKind::LockLost,
        "this client holds no such lock: the message was settled before, or its connection is gone and the library cannot \
         settle it over another one",
    )
}

/// Calls the library with a deadline. Callers box the future: the library's are tens of kilobytes large.
pub(super) async fn call<T, E: Error>(
    doing: &str,
    deadline: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault::of(doing, &error)),
        Err(_) => {
            let what = format!("failed to {doing}: no answer within {} s", deadline.as_secs_f64());
            Err(Fault::new(FailureKind::Timeout, what))
        }
    }
}

/// Like [`call`], but does not wait for the deadline when the connection is lost: a call that was under way at that moment
/// gets no error from the library. When no answer has come for a while, `probe` asks something else of the connection.
pub(super) async fn probed_call<T, E: Error>(
    doing: &str,
    deadline: Duration,
    future: impl Future<Output = Result<T, E>> + Unpin,
    probe: impl Future<Output = Result<(), Fault>>,
) -> Result<T, Fault> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
    let probe = async {
        tokio::time::sleep(PATIENCE).await;
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(Ok(())) => std::future::pending().await,
            // Such as: there is no such queue any more.
            Ok(Err(fault)) => Fault::new(fault.kind, format!("failed to {doing}: no answer, and {}", fault.what)),
            Err(_) => Fault::new(FailureKind::ConnectionLost, format!("failed to {doing}: the connection is silent")),
        }
    };
    tokio::select! {
        biased;
        result = call(doing, deadline, future) => result,
        fault = probe => Err(fault),
    }
}

/// The whole chain on one line of bounded length.
fn one_line(error: &dyn Error) -> String {
    const MAX_CHARS: usize = 400;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(cause_text.trim()) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_CHARS).collect()
}

/// The kind of failure that a text speaks of, and whether the link is lost with it. A management answer (`StatusError`) and
/// a message that was not accepted (`Rejceted`, as the library spells it) leave the link in order.
fn classify(text: &str) -> (FailureKind, bool) {
    const KINDS: [(&[&str], FailureKind); 7] = [
        (&["message-lock-lost", "MessageLockLost", "StatusCode(410)"], FailureKind::LockLost),
        (&["not-found", "NotFound", "StatusCode(404)"], FailureKind::NotFound),
        (
            &["unauthorized-access", "UnauthorizedAccess", "StatusCode(401)", "StatusCode(403)", "InvalidSignature"],
            FailureKind::Unauthorized,
        ),
        (&["server-busy", "ServerBusy", "StatusCode(429)", "StatusCode(503)"], FailureKind::Throttled),
        (&["message-size-exceeded", "MessageSizeExceeded"], FailureKind::TooLarge),
        (
            &["entity-disabled", "resource-limit-exceeded", "ResourceLimitExceeded", "not-allowed", "NotAllowed"],
            FailureKind::Refused,
        ),
        (&["elapsed", "Elapsed", "timed out", "StatusCode(408)"], FailureKind::Timeout),
    ];
    let answered = text.contains("StatusError") || text.contains("Rejceted") || text.contains("Rejected");
    let kind = KINDS.iter().find(|(words, _)| words.iter().any(|word| text.contains(word))).map(|(_, kind)| *kind);
    match kind {
        Some(kind) => (kind, !answered),
        None if answered => (FailureKind::Refused, false),
        None => (FailureKind::ConnectionLost, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_from_the_librarys_texts() {
        for (text, kind, ends_link) in [
            ("StatusError {code: StatusCode(410), description: Some(\"lost\") }", FailureKind::LockLost, false),
            ("Remote peer closed with error Error { condition: AmqpError(NotFound) }", FailureKind::NotFound, true),
            ("StatusError {code: StatusCode(401), description: None }", FailureKind::Unauthorized, false),
            (
                "Rejceted: Rejected { error: Some(Error { condition: Custom(Symbol(\"com.microsoft:server-busy\")) }) }",
                FailureKind::Throttled,
                false,
            ),
            ("Rejceted: Rejected { error: None }", FailureKind::Refused, false),
            ("Local error: IllegalSessionState", FailureKind::ConnectionLost, true),
            ("deadline has elapsed", FailureKind::Timeout, true),
        ] {
            assert_eq!(classify(text), (kind, ends_link), "{text}");
        }
    }

    #[test]
    fn an_error_is_one_line_of_bounded_length() {
        let error = std::io::Error::other(format!("a\nb {}", "x".repeat(1_000)));
        let fault = Fault::of("try", &error);
        assert!(fault.what.starts_with("failed to try: a b xxx") && fault.what.len() < 450, "{}", fault.what);
    }
}
