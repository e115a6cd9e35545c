//! Decides what becomes of a delivery, and writes it down before anyone is told.

use std::collections::HashMap;
use std::io;

use crate::delivery::Delivery;
use crate::effect_log::{EffectLog, Entry, Kind};
use crate::log_recovery::Recovered;
use crate::order::OrderPlaced;
use crate::payment::PaymentCaptured;

/// What became of a delivery; it is in the log already.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The money was taken now.
    Applied(PaymentCaptured),
    /// It was taken before: the answer given then.
    Repeated(PaymentCaptured),
    /// No money is taken for this order, and why.
    Refused(Refusal),
    /// Another worker, with this higher token, has delivered this key since.
    Fenced { highest_token: u64 },
}

/// Business reasons to turn an order down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// The card company says no.
    CardDeclined,
    /// The key was used for another order: answering with the stored payment would hide that one was not paid.
    KeyConflict,
}

/// How deliveries are judged.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Off: every delivery is applied, whatever its key and token.
    pub dedupe: bool,
    /// On: declined cards are charged after all.
    pub accept_declined: bool,
}

/// What is known of one idempotency key.
#[derive(Default)]
struct Known {
    highest_token: u64,
    captured: Option<PaymentCaptured>,
}

/// The keys served so far, and the log that they are rebuilt from.
///
/// Deliveries of one key never race: the ledger is used under one lock, so a decision and its line are one step.
pub struct Ledger {
    log: EffectLog,
    keys: HashMap<String, Known>,
    last_seq: u64,
    applied: u64,
}

impl Ledger {
    /// The ledger as the log left it.
    pub fn new(log: EffectLog, recovered: &Recovered) -> Self {
        let mut ledger = Self { log, keys: HashMap::new(), last_seq: 0, applied: 0 };
        for entry in &recovered.entries {
            ledger.learn(entry);
        }
        ledger
    }

    /// Effects in the log, all starts together.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Decides, appends the line, and only then remembers and returns what was decided. On an error nothing happened.
    pub fn deliver(
        &mut self,
        delivery: &Delivery,
        order: &OrderPlaced,
        rules: Rules,
        now_ms: u64,
    ) -> io::Result<Outcome> {
        let decision = self.decide(delivery, order, rules);
        let mut entry = Entry::new(self.last_seq + 1, decision.kind(), delivery, order, now_ms);
        entry.code = decision.code().map(String::from);
        self.log.append(&entry)?;
        self.learn(&entry);
        Ok(match decision {
            Decision::Apply => Outcome::Applied(PaymentCaptured::from(&entry)),
            Decision::Repeat(captured) => Outcome::Repeated(captured),
            Decision::Refuse(refusal) => Outcome::Refused(refusal),
            Decision::Fence { highest_token } => Outcome::Fenced { highest_token },
        })
    }

    fn decide(&self, delivery: &Delivery, order: &OrderPlaced, rules: Rules) -> Decision {
        if let Some(known) = self.keys.get(&delivery.key).filter(|_| rules.dedupe) {
            if delivery.token < known.highest_token {
                return Decision::Fence { highest_token: known.highest_token };
            }
            if let Some(captured) = &known.captured {
                return match is_for(captured, order) {
                    true => Decision::Repeat(captured.clone()),
                    false => Decision::Refuse(Refusal::KeyConflict),
                };
            }
        }
        match order.is_declined() && !rules.accept_declined {
            true => Decision::Refuse(Refusal::CardDeclined),
            false => Decision::Apply,
        }
    }

    /// A refusal is not remembered as an answer: after the cause is mended the same key may be tried again.
    fn learn(&mut self, entry: &Entry) {
        self.last_seq = entry.seq;
        let known = self.keys.entry(entry.key.clone()).or_default();
        known.highest_token = known.highest_token.max(entry.token);
        if entry.kind == Kind::Applied {
            self.applied += 1;
            known.captured.get_or_insert_with(|| PaymentCaptured::from(entry));
        }
    }
}

fn is_for(captured: &PaymentCaptured, order: &OrderPlaced) -> bool {
    captured.order_id == order.order_id
        && captured.customer_id == order.customer_id
        && captured.amount_cents == order.amount_cents
        && captured.currency == order.currency
}

enum Decision {
    Apply,
    Repeat(PaymentCaptured),
    Refuse(Refusal),
    Fence { highest_token: u64 },
}

impl Decision {
    fn kind(&self) -> Kind {
        match self {
            Self::Apply => Kind::Applied,
            Self::Repeat(_) => Kind::Repeat,
            Self::Refuse(_) => Kind::Refused,
            Self::Fence { .. } => Kind::Fenced,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Apply | Self::Repeat(_) => None,
            Self::Refuse(refusal) => Some(refusal.code()),
            Self::Fence { .. } => Some(STALE_TOKEN),
        }
    }
}

/// Problem code of a fenced delivery.
pub const STALE_TOKEN: &str = "stale_token";

impl Refusal {
    /// Stable problem code.
    pub fn code(self) -> &'static str {
        match self {
            Self::CardDeclined => "card_declined",
            Self::KeyConflict => "key_conflict",
        }
    }
}
