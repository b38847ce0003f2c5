//! From what a PUT asks to an entity's properties: ranges checked, what this broker cannot do refused rather than ignored.
//!
//! On update, what the body leaves out stays as it was; but forwarding ends, since leaving it out is the SDKs' only way to
//! say so.

use std::time::Duration;

use super::description::MEGABYTE;
use super::document::{Requested, RequestedRule};
use super::feed::DEFAULT_RULE;
use crate::address::path_of;
use crate::durations::NEVER;
use crate::state::{EntityName, EntityStatus, QueueProperties, TopicProperties};

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

/// The properties a queue or subscription gets; `before` is what it has, when it is updated.
pub(super) fn queue_properties(
    requested: &Requested,
    before: Option<&QueueProperties>,
) -> Result<QueueProperties, Refused> {
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
    if let Some(dead_letter) = requested.dead_lettering_on_message_expiration {
        properties.dead_letter_on_expiration = dead_letter;
    }
    properties.forward_to = target("ForwardTo", requested.forward_to.as_deref())?;
    let element = "ForwardDeadLetteredMessagesTo";
    properties.forward_dead_letters_to = target(element, requested.forward_dead_lettered_messages_to.as_deref())?;
    max_size(requested, &mut properties.max_size_bytes)?;
    time_to_live(requested, &mut properties.default_time_to_live)?;
    status(requested, &mut properties.status)?;
    user_metadata(requested, &mut properties.user_metadata)?;
    Ok(properties)
}

/// The properties a topic gets; `before` is what it has, when it is updated.
pub(super) fn topic_properties(
    requested: &Requested,
    before: Option<&TopicProperties>,
) -> Result<TopicProperties, Refused> {
    refuse_unsupported(requested)?;
    let mut properties = before.cloned().unwrap_or_default();
    max_size(requested, &mut properties.max_size_bytes)?;
    time_to_live(requested, &mut properties.default_time_to_live)?;
    status(requested, &mut properties.status)?;
    user_metadata(requested, &mut properties.user_metadata)?;
    Ok(properties)
}

fn max_size(requested: &Requested, bytes: &mut u64) -> Result<(), Refused> {
    let Some(megabytes) = requested.max_size_in_megabytes else { return Ok(()) };
    if !(1..=81_920).contains(&megabytes) {
        return Err(range("MaxSizeInMegabytes", megabytes.to_string(), "it must be 1 to 81920"));
    }
    *bytes = u64::from(megabytes) * MEGABYTE;
    Ok(())
}

fn time_to_live(requested: &Requested, default: &mut Option<Duration>) -> Result<(), Refused> {
    let Some(time_to_live) = requested.default_message_time_to_live else { return Ok(()) };
    if time_to_live.is_zero() {
        return Err(range("DefaultMessageTimeToLive", "PT0S".to_owned(), "it must be longer than zero"));
    }
    *default = (time_to_live < NEVER).then_some(time_to_live);
    Ok(())
}

fn status(requested: &Requested, status: &mut EntityStatus) -> Result<(), Refused> {
    let Some(text) = &requested.status else { return Ok(()) };
    *status = match text.as_str() {
        "Active" => EntityStatus::Active,
        "Disabled" => EntityStatus::Disabled,
        "SendDisabled" => EntityStatus::SendDisabled,
        "ReceiveDisabled" => EntityStatus::ReceiveDisabled,
        other => {
            let allowed = "it must be Active, Disabled, SendDisabled or ReceiveDisabled";
            return Err(range("Status", quoted(other), allowed));
        }
    };
    Ok(())
}

fn user_metadata(requested: &Requested, kept: &mut Option<String>) -> Result<(), Refused> {
    let Some(metadata) = &requested.user_metadata else { return Ok(()) };
    let characters = metadata.chars().count();
    if characters > MAX_METADATA_CHARACTERS {
        let value = format!("a text of {characters} characters");
        return Err(range("UserMetadata", value, "it must have at most 1024 characters"));
    }
    *kept = (!metadata.is_empty()).then(|| metadata.clone());
    Ok(())
}

/// A destination of forwarding: an address in any spelling, or the bare name. Whether it exists is the state's to say.
fn target(element: &'static str, text: Option<&str>) -> Result<Option<EntityName>, Refused> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let name = EntityName::new(path_of(text));
    name.map(Some).map_err(|_| range(element, quoted(text), "it must be the name or address of a queue or topic"))
}

fn refuse_unsupported(requested: &Requested) -> Result<(), Refused> {
    for (asked, element, what) in [
        (requested.requires_session == Some(true), "RequiresSession", "an entity with sessions"),
        (requested.requires_duplicate_detection == Some(true), "RequiresDuplicateDetection", "duplicate detection"),
        (requested.enable_partitioning == Some(true), "EnablePartitioning", "a partitioned entity"),
        (requested.enable_express == Some(true), "EnableExpress", "an express entity"),
        (
            requested.filtering_messages_before_publishing == Some(true),
            "FilteringMessagesBeforePublishing",
            "filtering",
        ),
        (
            requested.default_rule.as_ref().is_some_and(|rule| !is_true_rule(rule)),
            "DefaultRuleDescription",
            "a rule other than the true rule $Default",
        ),
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

/// Whether a rule is the one that every subscription has.
fn is_true_rule(rule: &RequestedRule) -> bool {
    let RequestedRule { name, filter, sql_expression, action } = rule;
    let named = name.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(DEFAULT_RULE));
    let filters = match filter.as_deref() {
        None | Some("TrueFilter") => true,
        Some("SqlFilter") => sql_expression.as_deref().is_some_and(|sql| sql.split_whitespace().eq(["1=1"])),
        Some(_) => false,
    };
    named && filters && action.as_deref().is_none_or(|action| action == "EmptyRuleAction")
}

/// A caller's text, short enough to be repeated to it.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

fn range(element: &'static str, value: String, allowed: &'static str) -> Refused {
    Refused::Range { element, value, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_gives_the_defaults_and_changes_nothing() {
        assert_eq!(queue_properties(&Requested::default(), None), Ok(QueueProperties::default()));
        let before = QueueProperties { max_delivery_count: 3, ..QueueProperties::default() };
        assert_eq!(queue_properties(&Requested::default(), Some(&before)), Ok(before));
    }

    #[test]
    fn never_is_no_limit() {
        let requested = Requested {
            default_message_time_to_live: Some(NEVER),
            auto_delete_on_idle: Some(NEVER),
            forward_to: Some(String::new()),
            ..Requested::default()
        };
        assert_eq!(queue_properties(&requested, None).map(|properties| properties.default_time_to_live), Ok(None));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (requested, element) in [
            (Requested { requires_session: Some(true), ..Requested::default() }, "RequiresSession"),
            (
                Requested { filtering_messages_before_publishing: Some(true), ..Requested::default() },
                "FilteringMessagesBeforePublishing",
            ),
            (
                Requested { auto_delete_on_idle: Some(Duration::from_mins(5)), ..Requested::default() },
                "AutoDeleteOnIdle",
            ),
        ] {
            let refused = queue_properties(&requested, None).expect_err(element);
            assert!(matches!(refused, Refused::NotSupported { element: found, .. } if found == element), "{refused}");
        }
    }

    #[test]
    fn only_the_true_rule_may_be_asked_for() {
        let rule = |name: &str, filter: &str, sql: &str, action: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let rule = RequestedRule {
                name: text(name),
                filter: text(filter),
                sql_expression: text(sql),
                action: text(action),
            };
            queue_properties(&Requested { default_rule: Some(rule), ..Requested::default() }, None)
        };
        assert!(rule("", "", "", "").is_ok() && rule("$Default", "TrueFilter", "1=1", "EmptyRuleAction").is_ok());
        assert!(rule("$default", "SqlFilter", "1=1", "").is_ok());
        for (name, filter, sql, action) in [
            ("mine", "TrueFilter", "1=1", ""),
            ("", "SqlFilter", "a=1", ""),
            ("", "FalseFilter", "1=0", ""),
            ("", "CorrelationFilter", "", ""),
            ("", "TrueFilter", "1=1", "SqlRuleAction"),
        ] {
            let refused = rule(name, filter, sql, action).expect_err(filter);
            assert!(refused.to_string().starts_with("DefaultRuleDescription: "), "{refused}");
        }
    }

    #[test]
    fn a_target_is_an_address_in_any_spelling_and_left_out_it_ends() {
        for text in ["Orders", "sb://host:5672/Orders", "https://host/orders/"] {
            let requested = Requested { forward_to: Some(text.to_owned()), ..Requested::default() };
            let properties = queue_properties(&requested, None).expect(text);
            assert_eq!(properties.forward_to, EntityName::new("orders").ok(), "{text}");
            let after = queue_properties(&Requested::default(), Some(&properties)).expect("valid");
            assert_eq!(after.forward_to, None);
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
            Requested { forward_to: Some("sb://h/t/Subscriptions/s".to_owned()), ..Requested::default() },
        ] {
            let refused = queue_properties(&requested, None).expect_err("out of range");
            assert!(matches!(refused, Refused::Range { .. }), "{refused}");
        }
    }
}
