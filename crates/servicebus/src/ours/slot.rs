//! One link of the conversation: not there, asked for, or ready. Links are made when a call needs them.

use std::time::Instant;

use amqp::{Attach, Connection, LinkId, SessionId};

/// A place for one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Slot {
    /// Not there; made at the next call that needs it.
    #[default]
    Absent,
    /// Asked for, and since when.
    Asked(LinkId, Instant),
    /// Usable.
    Ready(LinkId),
}

impl Slot {
    /// Asks for the link if it is not there.
    pub(super) fn ensure(
        &mut self,
        engine: &mut Connection,
        session: SessionId,
        now: Instant,
        attach: impl FnOnce() -> Attach,
    ) {
        if matches!(self, Self::Absent)
            && let Ok(link) = engine.attach(session, attach())
        {
            *self = Self::Asked(link, now);
        }
    }

    pub(super) fn is(&self, wanted: LinkId) -> bool {
        matches!(self, Self::Asked(link, _) | Self::Ready(link) if *link == wanted)
    }

    pub(super) fn ready(&self) -> Option<LinkId> {
        match self {
            Self::Ready(link) => Some(*link),
            _ => None,
        }
    }

    /// The peer accepted it.
    pub(super) fn accepted(&mut self) {
        if let Self::Asked(link, _) = *self {
            *self = Self::Ready(link);
        }
    }

    /// Parts from the link; the next call asks anew.
    pub(super) fn drop_link(&mut self, engine: &mut Connection) {
        if let Self::Asked(link, _) | Self::Ready(link) = *self {
            // Gone already is as good.
            let _ = engine.detach(link, None);
        }
        *self = Self::Absent;
    }

    /// Gives up an attach that was not answered while a whole call's time went by.
    pub(super) fn drop_unanswered(&mut self, engine: &mut Connection, since: Instant) {
        if matches!(self, Self::Asked(_, asked) if *asked <= since) {
            self.drop_link(engine);
        }
    }
}
