//! The product's own reads of Service Bus, and when each entity was looked at by them.
//!
//! A look is a read of the entity alone or of the page on which it stands, at the moment when the answer is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use scaler::access::Access;
use scaler::administration::AdministrationSource;
use scaler::entity::{Entity, Listing};
use scaler::source::{Observed, Page, Read, Source};

use crate::summary::Times;

/// What was looked at. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Looks(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    last: HashMap<String, Instant>,
    between: Vec<Duration>,
}

/// Reads as the product does, and takes notes.
pub(crate) struct Noted {
    source: AdministrationSource,
    looks: Looks,
}

impl Looks {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        let Seen { last, between } = &mut *self.seen();
        for name in names {
            match last.get_mut(name) {
                Some(before) => between.push(now - std::mem::replace(before, now)),
                None => drop(last.insert(name.to_owned(), now)),
            }
        }
    }

    /// Forgets everything, so that what comes is measured alone.
    pub(crate) fn forget(&self) {
        *self.seen() = Seen::default();
    }

    /// How many entities were looked at, and the times between two looks at the same one.
    pub(crate) fn between(&self) -> (usize, Times) {
        let seen = self.seen();
        (seen.last.len(), seen.between.iter().copied().collect())
    }
}

impl Noted {
    /// Nothing is noted yet.
    pub(crate) fn new(looks: Looks) -> Self {
        Self { source: AdministrationSource::new(), looks }
    }
}

impl Source for Noted {
    fn read<'a>(&'a self, access: &'a Access, entity: &'a Entity) -> Read<'a, Observed> {
        async move {
            let observed = self.source.read(access, entity).await?;
            self.looks.note(std::iter::once(entity.name()));
            Ok(observed)
        }
        .boxed()
    }

    fn page<'a>(&'a self, access: &'a Access, listing: &'a Listing, skip: usize) -> Read<'a, Page> {
        async move {
            let page = self.source.page(access, listing, skip).await?;
            self.looks.note(page.entities.iter().map(|(name, _)| name.as_str()));
            Ok(page)
        }
        .boxed()
    }
}
