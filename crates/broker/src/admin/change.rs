//! From what a PUT asks to a queue's properties: ranges checked, what this broker cannot do refused rather than ignored.
//!
//! On update, what the body leaves out stays as it was.

use std::time::Duration;

use super::document::Requested;
use crate::durations::NEVER;
use crate::state::{EntityStatus, QueueProperties};

/// Bytes in what the API calls a megabyte.
pub(super) const MEGABYTE: u64 = 1024 * 1024;
/// The service's limit for user metadata, in characters.
const MAX_METADATA_CHARACTERS: usize = 1_024;

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{element}: {what} is not supported by this broker")]
    NotSupported { element: &'static str, what: &'static str },
    #[error("{element}: {value} is not allowed; {allowed}")]
    Range { element: &'static str, value: String, allowed: &'static str },
}

/// The properties a queue gets; `before` is what it has, when it is updated.
pub(super) fn properties(requested: &Requested, before: Option<&QueueProperties>) -> Result<QueueProperties, Refused> {
    refuse_unsupported(requested)?;
    let mut properties = before.cloned().unwrap_or_default();
    if let Some(lock_duration) = requested.lock_duration {
        // The service's minimum is 5 s; less helps tests that wait for a lock to run out.
        if !(Duration::from_secs(1)..=Duration::from_mins(5)).contains(&lock_duration) {
            return Err(range("LockDuration", crate::durations::write_iso(lock_duration), "it must be PT1S to PT5M"));
        }
        properties.lock_duration = lock_duration;
    }
    if let Some(count) = requested.max_delivery_count {
        if !(1..=2_000).contains(&count) {
            return Err(range("MaxDeliveryCount", count.to_string(), "it must be 1 to 2000"));
        }
        properties.max_delivery_count = count;
    }
    if let Some(megabytes) = requested.max_size_in_megabytes {
        if !(1..=81_920).contains(&megabytes) {
            return Err(range("MaxSizeInMegabytes", megabytes.to_string(), "it must be 1 to 81920"));
        }
        properties.max_size_bytes = u64::from(megabytes) * MEGABYTE;
    }
    if let Some(time_to_live) = requested.default_message_time_to_live {
        if time_to_live.is_zero() {
            return Err(range("DefaultMessageTimeToLive", "PT0S".to_owned(), "it must be longer than zero"));
        }
        properties.default_time_to_live = (time_to_live < NEVER).then_some(time_to_live);
    }
    if let Some(dead_letter) = requested.dead_lettering_on_message_expiration {
        properties.dead_letter_on_expiration = dead_letter;
    }
    if let Some(status) = &requested.status {
        properties.status = match status.as_str() {
            "Active" => EntityStatus::Active,
            "Disabled" => EntityStatus::Disabled,
            "SendDisabled" => EntityStatus::SendDisabled,
            "ReceiveDisabled" => EntityStatus::ReceiveDisabled,
            other => {
                let value = format!("{:?}", other.chars().take(64).collect::<String>());
                return Err(range("Status", value, "it must be Active, Disabled, SendDisabled or ReceiveDisabled"));
            }
        };
    }
    if let Some(metadata) = &requested.user_metadata {
        let characters = metadata.chars().count();
        if characters > MAX_METADATA_CHARACTERS {
            let value = format!("a text of {characters} characters");
            return Err(range("UserMetadata", value, "it must have at most 1024 characters"));
        }
        properties.user_metadata = (!metadata.is_empty()).then(|| metadata.clone());
    }
    Ok(properties)
}

fn refuse_unsupported(requested: &Requested) -> Result<(), Refused> {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    for (asked, element, what) in [
        (requested.requires_session == Some(true), "RequiresSession", "a queue with sessions"),
        (requested.requires_duplicate_detection == Some(true), "RequiresDuplicateDetection", "duplicate detection"),
        (requested.enable_partitioning == Some(true), "EnablePartitioning", "a partitioned queue"),
        (requested.enable_express == Some(true), "EnableExpress", "an express queue"),
        (is_set(&requested.forward_to), "ForwardTo", "forwarding"),
        (is_set(&requested.forward_dead_lettered_messages_to), "ForwardDeadLetteredMessagesTo", "forwarding"),
        (requested.auto_delete_on_idle.is_some_and(|idle| idle < NEVER), "AutoDeleteOnIdle", "deletion when idle"),
        (
            requested.max_message_size_in_kilobytes.is_some_and(|kilobytes| kilobytes > 256),
            "MaxMessageSizeInKilobytes",
            "a message above 256 KB",
        ),
    ] {
        if asked {
            return Err(Refused::NotSupported { element, what });
        }
    }
    Ok(())
}

fn range(element: &'static str, value: String, allowed: &'static str) -> Refused {
    Refused::Range { element, value, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_gives_the_defaults_and_changes_nothing() {
        assert_eq!(properties(&Requested::default(), None), Ok(QueueProperties::default()));
        let before = QueueProperties { max_delivery_count: 3, ..QueueProperties::default() };
        assert_eq!(properties(&Requested::default(), Some(&before)), Ok(before));
    }

    #[test]
    fn never_is_no_limit() {
        let requested = Requested {
            default_message_time_to_live: Some(NEVER),
            auto_delete_on_idle: Some(NEVER),
            forward_to: Some(String::new()),
            ..Requested::default()
        };
        assert_eq!(properties(&requested, None).map(|properties| properties.default_time_to_live), Ok(None));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (requested, element) in [
            (Requested { requires_session: Some(true), ..Requested::default() }, "RequiresSession"),
            (Requested { forward_to: Some("q2".to_owned()), ..Requested::default() }, "ForwardTo"),
            (
                Requested { auto_delete_on_idle: Some(Duration::from_mins(5)), ..Requested::default() },
                "AutoDeleteOnIdle",
            ),
        ] {
            let refused = properties(&requested, None).expect_err(element);
            assert!(matches!(refused, Refused::NotSupported { element: found, .. } if found == element), "{refused}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        for requested in [
            Requested { lock_duration: Some(Duration::from_millis(999)), ..Requested::default() },
            Requested { lock_duration: Some(Duration::from_secs(301)), ..Requested::default() },
            Requested { max_delivery_count: Some(0), ..Requested::default() },
            Requested { max_size_in_megabytes: Some(0), ..Requested::default() },
            Requested { status: Some("Creating".to_owned()), ..Requested::default() },
            Requested { user_metadata: Some("x".repeat(1_025)), ..Requested::default() },
        ] {
            let refused = properties(&requested, None).expect_err("out of range");
            assert!(matches!(refused, Refused::Range { .. }), "{refused}");
        }
    }
}
