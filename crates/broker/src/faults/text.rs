//! How a fault is written, on the command line and at the control endpoint.
//!
//! A kind, then what narrows it, separated by commas (`throttle=30s,entity=orders,next=3`). Pure. Reading back what
//! [`Display`](fmt::Display) writes gives the same fault.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hyper::header::HeaderValue;

use super::{Fault, FaultKind, Plane};
use crate::address::scope_of;
use crate::counters::Operation;
use crate::durations;

/// The longest latency and Retry-After; more would be a stall.
const MAX_WAIT: Duration = Duration::from_hours(1);
/// The longest text of a fault, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1_024;

/// A text is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The kind is not known.
    #[error(
        "fault {0:?} is not known; known are latency, throttle, busy, status, reset, stall, wrong-key, drop, detach, \
         lose-settlement and lose-answer"
    )]
    Kind(String),
    /// A part is not known or stands twice.
    #[error(
        "{0:?} is not known or given twice; a kind is followed by plane=, entity=, operation=, probability=, next=, for=, \
         seed= and, for a status, location="
    )]
    Key(String),
    /// A value is not of the allowed ones.
    #[error("{key}={value} is not allowed: {allowed}")]
    Value {
        /// Which part.
        key: String,
        /// As given.
        value: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// A part does not go with the kind.
    #[error("{key}= does not go with {kind}")]
    Unfit {
        /// Which part.
        key: &'static str,
        /// The kind's name.
        kind: &'static str,
    },
    /// The text is too long.
    #[error("a fault has at most {MAX_TEXT_BYTES} bytes")]
    TooLong,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(FaultError::TooLong);
        }
        let mut parts = text.trim().split(',').map(str::trim);
        let mut fault = Self::new(kind(parts.next().unwrap_or_default())?);
        let mut seen: Vec<&str> = Vec::new();
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| FaultError::Key(part.to_owned()))?;
            let wrong = |allowed| FaultError::Value { key: key.to_owned(), value: value.to_owned(), allowed };
            if seen.contains(&key) {
                return Err(FaultError::Key(part.to_owned()));
            }
            seen.push(key);
            match key {
                "plane" => fault.plane = Some(plane(value).ok_or_else(|| wrong("administration or amqp"))?),
                "entity" => {
                    let scope = scope_of(value);
                    if scope.is_empty() {
                        return Err(wrong("the name of an entity"));
                    }
                    fault.entity = Some(scope);
                }
                "operation" => {
                    let known = Operation::ALL.into_iter().find(|operation| operation.name() == value);
                    fault.operation =
                        Some(known.ok_or_else(|| wrong("a kind that /$counters lists, such as get-queue"))?);
                }
                "probability" => {
                    let number = value.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 1.0);
                    fault.probability = number.ok_or_else(|| wrong("a number above 0, at most 1"))?;
                }
                "next" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    fault.next = Some(number.ok_or_else(|| wrong("a whole number from 1"))?);
                }
                "for" => {
                    let duration = durations::parse_flag(value).ok().filter(|duration| !duration.is_zero());
                    fault.lasts = Some(duration.ok_or_else(|| wrong("a duration such as 500ms, 30s or 2m"))?);
                }
                "seed" => fault.seed = value.parse().map_err(|_| wrong("a whole number"))?,
                "location" => {
                    let FaultKind::Status { location, .. } = &mut fault.kind else {
                        return Err(FaultError::Unfit { key: "location", kind: fault.kind.name() });
                    };
                    HeaderValue::from_str(value).map_err(|_| wrong("an address without control characters"))?;
                    *location = Some(value.to_owned());
                }
                _ => return Err(FaultError::Key(part.to_owned())),
            }
        }
        fault.check()
    }
}

impl Fault {
    /// Refuses parts that would be without effect.
    fn check(self) -> Result<Self, FaultError> {
        let kind = self.kind.name();
        let unfit = |key, is_given: bool| if is_given { Err(FaultError::Unfit { key, kind }) } else { Ok(()) };
        unfit("plane", self.plane.is_some() && self.kind.plane().is_some())?;
        unfit("operation", self.operation.is_some() && self.kind.plane() == Some(Plane::Amqp))?;
        if self.kind.is_instant() {
            unfit("probability", self.probability < 1.0)?;
            unfit("next", self.next.is_some())?;
            unfit("for", self.lasts.is_some())?;
            unfit("operation", self.operation.is_some())?;
            unfit("entity", self.entity.is_some() && self.kind == FaultKind::Drop)?;
        }
        if let (Some(operation), Some(plane)) = (self.operation, self.plane.or(self.kind.plane())) {
            unfit("plane", operation.is_administration() != (plane == Plane::Administration))?;
        }
        Ok(self)
    }
}

fn kind(text: &str) -> Result<FaultKind, FaultError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let wrong =
        |allowed| FaultError::Value { key: name.to_owned(), value: value.unwrap_or_default().to_owned(), allowed };
    let wait = |text: &str| durations::parse_flag(text).ok().filter(|duration| *duration <= MAX_WAIT);
    Ok(match name {
        "latency" => {
            let allowed = "a duration such as 200ms, or a range such as 50ms..5s, at most 1h";
            let (from, to) = value.map(|value| value.split_once("..").unwrap_or((value, value))).unwrap_or_default();
            let range = wait(from).zip(wait(to)).filter(|(from, to)| from <= to);
            let (from, to) = range.ok_or_else(|| wrong(allowed))?;
            FaultKind::Latency { from, to }
        }
        "throttle" => {
            let duration = wait(value.unwrap_or("2s")).filter(|duration| duration.subsec_nanos() == 0);
            let duration = duration.ok_or_else(|| wrong("whole seconds such as 30s, at most 1h, for Retry-After"))?;
            FaultKind::Throttle { retry_after_seconds: duration.as_secs() }
        }
        "busy" => {
            let code = value.unwrap_or("50009").parse().ok().filter(|code| (50_000..60_000).contains(code));
            FaultKind::Busy { sub_code: code.ok_or_else(|| wrong("a SubCode such as 50009 or 50004"))? }
        }
        "status" => {
            let status = value.and_then(|value| value.parse().ok()).filter(|status| (200..600).contains(status));
            FaultKind::Status { status: status.ok_or_else(|| wrong("an HTTP status, 200 to 599"))?, location: None }
        }
        "detach" => {
            let condition = value.unwrap_or("amqp:link:detach-forced");
            if condition.is_empty() || !condition.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("an AMQP error condition such as amqp:link:detach-forced"));
            }
            FaultKind::Detach { condition: condition.to_owned() }
        }
        _ => {
            let kind = match name {
                "reset" => FaultKind::Reset,
                "stall" => FaultKind::Stall,
                "wrong-key" => FaultKind::WrongKey,
                "drop" => FaultKind::Drop,
                "lose-settlement" => FaultKind::LoseSettlement,
                "lose-answer" => FaultKind::LoseAnswer,
                _ => return Err(FaultError::Kind(name.to_owned())),
            };
            if value.is_some() {
                return Err(wrong("it takes no value"));
            }
            kind
        }
    })
}

fn plane(text: &str) -> Option<Plane> {
    match text {
        "administration" => Some(Plane::Administration),
        "amqp" => Some(Plane::Amqp),
        _ => None,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.name())?;
        match &self.kind {
            FaultKind::Latency { from, to } if from == to => write!(formatter, "={}", Short(*from))?,
            FaultKind::Latency { from, to } => write!(formatter, "={}..{}", Short(*from), Short(*to))?,
            FaultKind::Throttle { retry_after_seconds } => write!(formatter, "={retry_after_seconds}s")?,
            FaultKind::Busy { sub_code } => write!(formatter, "={sub_code}")?,
            FaultKind::Status { status, location } => {
                write!(formatter, "={status}")?;
                if let Some(location) = location {
                    write!(formatter, ",location={location}")?;
                }
            }
            FaultKind::Detach { condition } => write!(formatter, "={condition}")?,
            _ => {}
        }
        match self.plane {
            Some(Plane::Administration) => formatter.write_str(",plane=administration")?,
            Some(Plane::Amqp) => formatter.write_str(",plane=amqp")?,
            None => {}
        }
        if let Some(entity) = &self.entity {
            write!(formatter, ",entity={entity}")?;
        }
        if let Some(operation) = self.operation {
            write!(formatter, ",operation={}", operation.name())?;
        }
        if self.probability < 1.0 {
            write!(formatter, ",probability={}", self.probability)?;
        }
        if let Some(next) = self.next {
            write!(formatter, ",next={next}")?;
        }
        if let Some(lasts) = self.lasts {
            write!(formatter, ",for={}", Short(lasts))?;
        }
        if self.seed != 0 {
            write!(formatter, ",seed={}", self.seed)?;
        }
        Ok(())
    }
}

/// A duration as a flag takes it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_millis(), self.0.subsec_nanos() % 1_000_000) {
            (_, 1..) => formatter.write_str(&durations::write_iso(self.0)),
            (milliseconds, 0) if milliseconds % 1_000 == 0 => write!(formatter, "{}s", milliseconds / 1_000),
            (milliseconds, 0) => write!(formatter, "{milliseconds}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Fault {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn texts_are_read_and_written() {
        for (text, written) in [
            ("latency=200ms", "latency=200ms"),
            ("latency=50ms..5s,probability=0.25,seed=7", "latency=50ms..5s,probability=0.25,seed=7"),
            ("throttle", "throttle=2s"),
            ("throttle=1m,next=3", "throttle=60s,next=3"),
            ("busy,plane=amqp", "busy=50009,plane=amqp"),
            ("busy=50004", "busy=50004"),
            ("status=302,location=https://evil.example/x?a=b", "status=302,location=https://evil.example/x?a=b"),
            (" reset , plane=administration , for=2m ", "reset,plane=administration,for=120s"),
            ("stall,entity=/Orders/", "stall,entity=orders"),
            ("wrong-key,operation=get-queue", "wrong-key,operation=get-queue"),
            ("drop,plane=amqp", "drop,plane=amqp"),
            ("detach=com.microsoft:timeout,entity=orders", "detach=com.microsoft:timeout,entity=orders"),
            ("detach", "detach=amqp:link:detach-forced"),
            ("lose-settlement,for=PT0.0000001S", "lose-settlement,for=PT0.0000001S"),
            ("lose-answer,next=1", "lose-answer,next=1"),
        ] {
            let fault = parsed(text);
            assert_eq!(fault.to_string(), written);
            assert_eq!(parsed(written), fault);
        }
    }

    #[test]
    fn errors_name_the_part_and_what_is_allowed() {
        for (text, wanted) in [
            ("", "known are latency"),
            ("explode", "\"explode\""),
            ("latency", "latency="),
            ("latency=5", "50ms..5s"),
            ("latency=5s..1s", "range"),
            ("latency=2h", "1h"),
            ("throttle=500ms", "whole seconds"),
            ("busy=7", "50009"),
            ("status=99", "200 to 599"),
            ("reset=1", "takes no value"),
            ("reset,plane=http", "administration or amqp"),
            ("reset,colour=red", "colour=red"),
            ("reset,next=1,next=2", "twice"),
            ("reset,next=0", "from 1"),
            ("reset,probability=1.5", "at most 1"),
            ("reset,probability=NaN", "at most 1"),
            ("reset,for=0s", "duration"),
            ("reset,entity=/", "entity"),
            ("reset,operation=fly", "get-queue"),
            ("throttle,location=x", "does not go with throttle"),
            ("status=302,location=a\u{1}b", "control characters"),
            ("status=500,plane=amqp", "plane= does not go with status"),
            ("detach= ", "condition"),
            ("detach,next=1", "next= does not go with detach"),
            ("drop,entity=q", "entity= does not go with drop"),
            ("stall,plane=amqp,operation=get-queue", "plane="),
            ("lose-answer,operation=send", "operation="),
        ] {
            let error = text.parse::<Fault>().expect_err(text).to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert_eq!("x".repeat(2_000).parse::<Fault>(), Err(FaultError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(kind in "(latency|throttle|status|detach|reset)?", rest in "[=,.0-9a-z:ms/ é]{0,40}") {
            if let Ok(fault) = format!("{kind}{rest}").parse::<Fault>() {
                prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
            }
        }
    }
}
