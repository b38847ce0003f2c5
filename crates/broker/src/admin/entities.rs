//! Queues, topics, subscriptions and their rule: created, read, listed, changed and deleted.
//!
//! A PUT says by its document which kind it means; a GET finds out. Every subscription has the one rule `$Default`, which
//! is always true: it can be read, and everything else about rules is refused as not supported.

use hyper::{HeaderMap, StatusCode};

use super::Admin;
use super::answer::{Answer, Failure};
use super::change::{queue_properties, topic_properties};
use super::document::{Kind, Requested};
use super::feed::{self, DEFAULT_RULE, Page, Subject};
use super::routes::Query;
use super::xml::Scene;
use crate::access::{Permit, Right};
use crate::address::scope_of;
use crate::content::StoredMessage;
use crate::state::{Effect, EntityName, Event, QueueProperties, RequestId, State};

/// Where a token for the destination of `ForwardTo` stands when the request's own does not cover it.
const FORWARD_TOKEN: &str = "ServiceBusSupplementaryAuthorization";
/// The same for `ForwardDeadLetteredMessagesTo`.
const FORWARD_DEAD_LETTERS_TOKEN: &str = "ServiceBusDlqSupplementaryAuthorization";
const OTHER_RULES: &str = "rules other than the true rule $Default";

impl Admin {
    /// The entry of an entity.
    pub(super) fn entry(&self, scene: &Scene<'_>, name: &EntityName) -> Result<Answer, Failure> {
        let subject = self.hub.read(|state| subject(state, name)).ok_or_else(Failure::not_found)?;
        Answer::entry(feed::entry(scene, &subject))
    }

    /// Creates an entity, or with `update` changes it.
    pub(super) fn put(
        &self,
        name: &EntityName,
        requested: &Requested,
        update: bool,
        permit: &Permit,
        headers: &HeaderMap,
    ) -> Result<StatusCode, Failure> {
        if name.topic().is_some() != (requested.kind == Kind::Subscription) {
            let detail = format!("SubCode=40000. The path does not fit a {:?}Description.", requested.kind);
            return Err(Failure::new(StatusCode::BAD_REQUEST, &detail));
        }
        if requested.kind == Kind::Topic {
            let before = if update {
                let snapshot = self.hub.read(|state| state.describe_topic(name)).ok_or_else(Failure::not_found)?;
                Some(snapshot.properties)
            } else {
                None
            };
            let properties = topic_properties(requested, before.as_ref())?;
            let name = name.clone();
            self.administer(|request| {
                if update {
                    Event::UpdateTopic { request, name, properties }
                } else {
                    Event::CreateTopic { request, name, properties }
                }
            })?;
        } else {
            let before = if update {
                let snapshot = self.hub.describe(name).ok_or_else(Failure::not_found)?;
                Some(snapshot.properties)
            } else {
                None
            };
            let properties = queue_properties(requested, before.as_ref())?;
            self.check_targets(&properties, before.as_ref(), permit, headers)?;
            let name = name.clone();
            self.administer(|request| {
                if update {
                    Event::UpdateQueue { request, name, properties }
                } else {
                    Event::CreateQueue { request, name, properties }
                }
            })?;
        }
        tracing::info!(entity = %name, kind = ?requested.kind, update, "entity written");
        Ok(if update { StatusCode::OK } else { StatusCode::CREATED })
    }

    /// Deletes an entity.
    pub(super) fn delete(&self, name: &EntityName) -> Result<Answer, Failure> {
        self.administer(|request| Event::Delete { request, name: name.clone() })?;
        tracing::info!(entity = %name, "entity deleted");
        Ok(Answer::nothing())
    }

    /// A page of all queues.
    pub(super) fn queues(&self, scene: &Scene<'_>, query: &Query) -> Result<Answer, Failure> {
        let subjects = self.hub.read(|state| page(query, state.list().map(Subject::Queue)));
        list(scene, query, "$Resources/Queues", "Queues", subjects)
    }

    /// A page of all topics.
    pub(super) fn topics(&self, scene: &Scene<'_>, query: &Query) -> Result<Answer, Failure> {
        let subjects = self.hub.read(|state| page(query, state.list_topics().map(Subject::Topic)));
        list(scene, query, "$Resources/Topics", "Topics", subjects)
    }

    /// A page of a topic's subscriptions.
    pub(super) fn subscriptions(
        &self,
        scene: &Scene<'_>,
        query: &Query,
        topic: &EntityName,
    ) -> Result<Answer, Failure> {
        let subjects = self
            .hub
            .read(|state| Some(page(query, state.list_subscriptions(topic)?.map(Subject::Subscription))))
            .ok_or_else(Failure::not_found)?;
        list(scene, query, &format!("{topic}/Subscriptions"), "Subscriptions", subjects)
    }

    /// A page of a subscription's rules: of the one there is.
    pub(super) fn rules(&self, scene: &Scene<'_>, query: &Query, name: &EntityName) -> Result<Answer, Failure> {
        let subscription = self.hub.describe(name).ok_or_else(Failure::not_found)?;
        let subjects = page(query, std::iter::once(Subject::TrueRule(subscription)));
        list(scene, query, &format!("{name}/Rules"), "Rules", subjects)
    }

    /// The entry of a rule.
    pub(super) fn rule(&self, scene: &Scene<'_>, name: &EntityName, rule: &str) -> Result<Answer, Failure> {
        let subscription = self.hub.describe(name).ok_or_else(Failure::not_found)?;
        if !rule.eq_ignore_ascii_case(DEFAULT_RULE) {
            return Err(Failure::not_found());
        }
        Answer::entry(feed::entry(scene, &Subject::TrueRule(subscription)))
    }

    /// Why a rule is not created, changed or deleted.
    pub(super) fn refuse_rule(&self, name: &EntityName, rule: &str, creates: bool) -> Failure {
        if self.hub.describe(name).is_none() {
            return Failure::not_found();
        }
        if creates && rule.eq_ignore_ascii_case(DEFAULT_RULE) {
            let detail = format!("SubCode=40900. The messaging entity '{name}/Rules/{DEFAULT_RULE}' already exists.");
            return Failure::new(StatusCode::CONFLICT, &detail);
        }
        Failure::not_supported(OTHER_RULES)
    }

    /// Who lets messages be forwarded must be allowed to reach their destination, by the request's own token or by one
    /// for that destination. A destination that stays as it was is not asked about again.
    fn check_targets(
        &self,
        properties: &QueueProperties,
        before: Option<&QueueProperties>,
        permit: &Permit,
        headers: &HeaderMap,
    ) -> Result<(), Failure> {
        for (header, target, before) in [
            (FORWARD_TOKEN, &properties.forward_to, before.and_then(|before| before.forward_to.as_ref())),
            (
                FORWARD_DEAD_LETTERS_TOKEN,
                &properties.forward_dead_letters_to,
                before.and_then(|before| before.forward_dead_letters_to.as_ref()),
            ),
        ] {
            let Some(target) = target.as_ref().filter(|target| before != Some(*target)) else { continue };
            let path = scope_of(target.as_str());
            let other = || headers.get(header).map(|token| self.check_token(token)).transpose();
            let covers = |permit: &Permit| permit.allows(&path, Right::Send);
            if !covers(permit) && !other()?.as_ref().is_some_and(covers) {
                let detail =
                    format!("The token does not cover the destination {target}; send one that does as {header}.");
                return Err(Failure::unauthorized(&detail));
            }
        }
        Ok(())
    }

    fn administer(&self, make: impl FnOnce(RequestId) -> Event<StoredMessage>) -> Result<(), Failure> {
        let result = self.hub.request(make, |effect| match effect {
            Effect::Administered { result, .. } => Some(result),
            _ => None,
        });
        result.map_err(Failure::from)
    }
}

fn subject(state: &State<StoredMessage>, name: &EntityName) -> Option<Subject> {
    if let Some(topic) = state.describe_topic(name) {
        return Some(Subject::Topic(topic));
    }
    let queue = state.describe(name)?;
    Some(if name.topic().is_some() { Subject::Subscription(queue) } else { Subject::Queue(queue) })
}

/// A page's subjects, and one more if more follow.
fn page(query: &Query, all: impl Iterator<Item = Subject>) -> Vec<Subject> {
    all.skip(query.skip).take(query.top + 1).collect()
}

fn list(
    scene: &Scene<'_>,
    query: &Query,
    path: &str,
    title: &str,
    mut subjects: Vec<Subject>,
) -> Result<Answer, Failure> {
    let more = subjects.len() > query.top;
    subjects.truncate(query.top);
    let page = Page { path, title, skip: query.skip, top: query.top, more };
    Answer::feed(feed::feed(scene, &page, &subjects))
}
