//! Listings, page by page: the caller decides whether the next page is worth an operation.

use std::sync::Arc;

use super::atom::{self, Document};
use super::http::{Exchange, Scope};
use super::{AdministrationError, EntityDescription};

/// A listing, page by page. Entities that are made or removed meanwhile may be left out or come twice, as the service pages by
/// position.
#[derive(Debug)]
pub struct EntityPages {
    exchange: Arc<Exchange>,
    scope: Scope,
    skip: usize,
    /// Whether a page has said that there is another: then one that does not is the last.
    says_next: bool,
    finished: bool,
}

impl EntityPages {
    pub(super) fn new(exchange: Arc<Exchange>, scope: Scope) -> Self {
        Self { exchange, scope, skip: 0, says_next: false, finished: false }
    }

    /// Goes on after so many entities, as if they had been read: for a caller that keeps its place itself.
    #[must_use]
    pub fn skipping(self, entities: usize) -> Self {
        Self { skip: self.skip + entities, ..self }
    }

    /// Whether the last page was read, so that [`next`](Self::next) would ask nothing more.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next page by one request, at most [`AdministrationOptions::page_size`](super::AdministrationOptions::page_size)
    /// entities; `None` after the last, or where the answer held none. After an error the same page may be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<EntityDescription>>, AdministrationError> {
        if self.finished {
            return Ok(None);
        }
        let page_size = self.exchange.page_size();
        let body = self.exchange.send_page(&self.scope, self.skip, page_size).await?;
        let document = atom::read(&body).map_err(|why| self.exchange.malformed(why))?;
        let Document::Feed { entities, has_next, is_nothing_here } = document else {
            return Err(self.exchange.malformed("the listing is not a feed"));
        };
        if is_nothing_here && self.scope != Scope::Queues {
            return Err(self.exchange.not_found(&self.scope));
        }
        self.skip += entities.len();
        self.says_next |= has_next;
        // Asking once more after the last page would cost ten credits to learn nothing. A full page without a link to the next
        // is not surely the last if the service has set no link so far: KEDA's own client does without them.
        self.finished = entities.is_empty() || (!has_next && (self.says_next || entities.len() < page_size));
        Ok((!entities.is_empty()).then_some(entities))
    }
}
