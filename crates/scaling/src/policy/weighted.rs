//! Like `messageCount`, on a weighted sum of all five counts.
//!
//! Scheduled messages weigh a little, so that workers are there when they come due; dead-lettered ones weigh when the
//! workers also repair. Weights are per message: `scheduled=0.2` means that five scheduled messages count as one active.

use super::{Base, Decision, Entry, Key, KeyError, Policy, Settings, shown};
use crate::reading::{Counts, Moment, Window};

const WEIGHTS: Key = Key {
    name: "weights",
    doc: "what one message of each count weighs, in active messages; a count not named keeps its default",
    allowed: "a list such as \"active=1,scheduled=0.2\" of active, scheduled, deadLetter, transfer, \
              transferDeadLetter, each once at most, with weights from 0 to 1000000",
    default: "active=1,scheduled=0,deadLetter=0,transfer=0,transferDeadLetter=0",
};

pub(super) const ENTRY: Entry = Entry {
    name: "weighted",
    summary: "one replica for every `messageCount` of a weighted sum of all five counts",
    keys: &[WEIGHTS],
    build: |base, settings| Ok(Box::new(Weighted { base, weights: parse(settings)? })),
};

/// The highest weight. A bound keeps sums finite.
const MAX_WEIGHT: f64 = 1_000_000.0;

type Count = fn(&Counts) -> u64;

/// How a count is called and where it stands in a reading.
const COUNTS: [(&str, Count); 5] = [
    ("active", |counts| counts.active),
    ("scheduled", |counts| counts.scheduled),
    ("deadLetter", |counts| counts.dead_letter),
    ("transfer", |counts| counts.transfer),
    ("transferDeadLetter", |counts| counts.transfer_dead_letter),
];

#[derive(Debug)]
struct Weighted {
    base: Base,
    /// In the order of [`COUNTS`].
    weights: [f64; COUNTS.len()],
}

impl Policy for Weighted {
    fn decide(&self, window: &Window<'_>, _now: Moment) -> Decision {
        let counts = &window.newest().counts;
        let mut sum = 0.0;
        let mut terms = Vec::with_capacity(COUNTS.len());
        for ((name, count), weight) in COUNTS.iter().zip(self.weights) {
            let count = count(counts);
            sum += weight * count as f64;
            if weight > 0.0 {
                terms.push(format!("{} × {count} {name}", shown(weight)));
            }
        }
        let per_replica = self.base.message_count();
        let replicas = sum / f64::from(per_replica);
        let terms = if terms.is_empty() { "no weights".to_owned() } else { terms.join(" + ") };
        Decision {
            replicas,
            active: sum > self.base.activation_message_count() as f64,
            why: format!("({terms}) = {}, / {per_replica} a replica = {} replicas", shown(sum), shown(replicas)),
        }
    }
}

fn parse(settings: &Settings) -> Result<[f64; COUNTS.len()], KeyError> {
    let text = settings.get(WEIGHTS.name).map_or("", String::as_str);
    let wrong = |problem: String| KeyError::new(&WEIGHTS, text, problem);
    let mut given: [Option<f64>; COUNTS.len()] = Default::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, weight) = part.split_once('=').ok_or_else(|| wrong(format!("has {part:?} without a weight")))?;
        let (name, weight) = (name.trim(), weight.trim());
        let index = COUNTS
            .iter()
            .position(|(known, _)| *known == name)
            .ok_or_else(|| wrong(format!("names {name:?}, which is no count")))?;
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| (0.0..=MAX_WEIGHT).contains(weight))
            .ok_or_else(|| wrong(format!("gives {name} the weight {weight:?}")))?;
        if given[index].replace(weight).is_some() {
            return Err(wrong(format!("names {name} twice")));
        }
    }
    let defaults = [1.0, 0.0, 0.0, 0.0, 0.0];
    Ok(std::array::from_fn(|index| given[index].unwrap_or(defaults[index])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::policy::tests::{base, counts, decide, reading};
    use crate::{Base, Counts, Decision, PolicyError, Settings, build_policy};

    proptest! {
        /// The list's own properties see the default weights alone; here are all others.
        #[test]
        fn any_weights_give_the_weighted_sum(base in base(), counts in counts(), weights in prop::array::uniform5(0.0..=1e6)) {
            let [active, scheduled, dead_letter, transfer, transfer_dead_letter] = weights;
            let text = format!(
                "active={active},scheduled={scheduled},deadLetter={dead_letter},transfer={transfer},\
                 transferDeadLetter={transfer_dead_letter}"
            );
            let settings = Settings::from([("weights".to_owned(), text)]);
            let policy = build_policy("weighted", base, &settings).unwrap();
            let decision = decide(&*policy, reading(counts));
            let sum: f64 = active * counts.active as f64
                + scheduled * counts.scheduled as f64
                + dead_letter * counts.dead_letter as f64
                + transfer * counts.transfer as f64
                + transfer_dead_letter * counts.transfer_dead_letter as f64;
            let expected = sum / f64::from(base.message_count());
            prop_assert!(decision.replicas.is_finite() && decision.replicas >= 0.0, "{decision:?}");
            prop_assert!((decision.replicas - expected).abs() <= expected * 1e-12, "{decision:?}, not {expected}");
            prop_assert_eq!(decision.active, sum > base.activation_message_count() as f64);
            let more = Counts { active: counts.active.saturating_add(1_000), ..counts };
            prop_assert!(decide(&*policy, reading(more)).replicas >= decision.replicas);
        }
    }

    fn weighted(weights: &str) -> Result<Decision, PolicyError> {
        let settings = Settings::from([("weights".to_owned(), weights.to_owned())]);
        let policy = build_policy("weighted", Base::default(), &settings)?;
        let counts = Counts { active: 10, scheduled: 100, dead_letter: 7, transfer: 3, transfer_dead_letter: 1 };
        Ok(decide(&*policy, reading(counts)))
    }

    #[test]
    fn weighs_each_count() {
        for (weights, replicas) in [
            ("", 2.0),
            ("active=1,scheduled=0.2,deadLetter=0,transfer=0", 6.0),
            ("active=0.5", 1.0),
            (" scheduled = 1 , active = 0 ", 20.0),
            ("deadLetter=1,transfer=2,transferDeadLetter=3", (10.0 + 7.0 + 6.0 + 3.0) / 5.0),
        ] {
            let decision = weighted(weights).unwrap();
            assert!((decision.replicas - replicas).abs() < 1e-9, "{weights}: {decision:?}");
        }
        let why = weighted("scheduled=0.2").unwrap().why;
        assert_eq!(why, "(1 × 10 active + 0.2 × 100 scheduled) = 30, / 5 a replica = 6 replicas");
    }

    #[test]
    fn all_weights_zero_is_inactive() {
        let decision = weighted("active=0").unwrap();
        assert_eq!((decision.replicas, decision.active), (0.0, false));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for (weights, problem) in [
            ("active", "has \"active\" without a weight"),
            ("dead=1", "names \"dead\", which is no count"),
            ("active=-1", "gives active the weight \"-1\""),
            ("active=NaN", "gives active the weight \"NaN\""),
            ("active=inf", "gives active the weight \"inf\""),
            ("active=1,active=2", "names active twice"),
        ] {
            let error = weighted(weights).unwrap_err().to_string();
            let expected = format!("weights: {weights:?} {problem}; allowed is a list such as");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
