//! Trouble on demand: slowness and errors that are switched on and off while the service runs.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest latency that can be asked for (ms).
pub const MAX_LATENCY_MS: u64 = 60_000;

/// The switches as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Switches {
    /// Added to every answer: half before the effect, half after it, so that a client that gives up may do so on
    /// either side of it.
    pub latency_ms: u64,
    /// Share of deliveries answered with an error, 0 to 1.
    pub error_rate: f64,
    /// Take orders whose card is declined.
    pub accept_declined: bool,
}

/// Switches to set; those left out stay as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub latency_ms: Option<u64>,
    pub error_rate: Option<f64>,
    pub accept_declined: Option<bool>,
}

/// Where one delivery is made to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    Never,
    /// Nothing happened.
    BeforeEffect,
    /// It happened and the answer is lost: the caller must come again with the same key.
    AfterEffect,
}

/// What is in store for one delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    pub failure: Failure,
    /// Waited twice, before and after the effect.
    pub half_latency: Duration,
    pub accept_declined: bool,
}

/// The switches and the dice.
pub struct Faults {
    state: Mutex<(Switches, u64)>,
}

impl Faults {
    /// `seed` makes the run of failures repeatable.
    pub fn new(seed: u64, accept_declined: bool) -> Self {
        Self { state: Mutex::new((Switches { accept_declined, ..Switches::default() }, seed)) }
    }

    pub fn switches(&self) -> Switches {
        self.state.lock().expect("no panic under this lock").0
    }

    /// Sets what the change names, or nothing at all and the name of the field at fault.
    pub fn change(&self, change: &Change) -> Result<Switches, (&'static str, String)> {
        if change.latency_ms.is_some_and(|latency| latency > MAX_LATENCY_MS) {
            return Err(("latency_ms", format!("latency_ms: at most {MAX_LATENCY_MS}")));
        }
        if change.error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err(("error_rate", "error_rate: expected a number from 0 to 1".into()));
        }
        let (switches, _) = &mut *self.state.lock().expect("no panic under this lock");
        switches.latency_ms = change.latency_ms.unwrap_or(switches.latency_ms);
        switches.error_rate = change.error_rate.unwrap_or(switches.error_rate);
        switches.accept_declined = change.accept_declined.unwrap_or(switches.accept_declined);
        Ok(*switches)
    }

    /// Waited twice, before and after the effects of a batch.
    pub fn half_latency(&self) -> Duration {
        Duration::from_micros(self.switches().latency_ms * 1000 / 2)
    }

    /// Rolls the dice for one delivery.
    pub fn draw(&self) -> Fate {
        let (switches, seed) = &mut *self.state.lock().expect("no panic under this lock");
        let roll = unit_interval(seed);
        let failure = match roll / switches.error_rate {
            share if share < 0.5 => Failure::BeforeEffect,
            share if share < 1.0 => Failure::AfterEffect,
            _ => Failure::Never,
        };
        let half_latency = Duration::from_micros(switches.latency_ms * 1000 / 2);
        Fate { failure, half_latency, accept_declined: switches.accept_declined }
    }
}

/// Next number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014), its upper 53 bits.
fn unit_interval(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(error_rate: f64) -> [usize; 3] {
        let faults = Faults::new(7, false);
        faults.change(&Change { error_rate: Some(error_rate), ..Change::default() }).unwrap();
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[match faults.draw().failure {
                Failure::Never => 0,
                Failure::BeforeEffect => 1,
                Failure::AfterEffect => 2,
            }] += 1;
        }
        counts
    }

    #[test]
    fn errors_are_half_before_and_half_after_the_effect() {
        assert_eq!(drawn(0.0), [10_000, 0, 0]);
        assert_eq!(drawn(1.0)[0], 0);
        let [never, before, after] = drawn(0.4);
        assert!((5_800..6_200).contains(&never), "{never}");
        assert!((1_850..2_150).contains(&before) && (1_850..2_150).contains(&after), "{before} {after}");
    }

    #[test]
    fn a_wrong_change_changes_nothing() {
        let faults = Faults::new(1, true);
        let wrong = Change { latency_ms: Some(5), error_rate: Some(1.5), accept_declined: Some(false) };
        assert_eq!(faults.change(&wrong).unwrap_err().0, "error_rate");
        assert_eq!(faults.switches(), Switches { accept_declined: true, ..Switches::default() });
    }
}
