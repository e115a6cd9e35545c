//! The payment service of the shop example.
//!
//! A buffer delivers every order *at least* once; this service makes the effect happen once: it knows the idempotency
//! keys it has served and answers a repeat with the stored answer. What it did is in an append-only log, written
//! before the answer, so that anyone can compare the buffer's books with what really happened.
//!
//! Read in this order: [`delivery`], [`batch`] and [`order`] (what comes in), [`ledger`] (what is decided), [`effect_log`] and
//! [`log_recovery`] (what is kept), [`group_commit`] (`--fsync`), [`faults`] (trouble on demand), [`problem`] (how
//! errors are told), [`service`] and [`server`] (HTTP), [`command_line`].

pub mod batch;
pub mod command_line;
pub mod delivery;
pub mod effect_log;
pub mod events;
pub mod faults;
pub mod group_commit;
pub mod ledger;
pub mod log_recovery;
pub mod order;
pub mod payment;
pub mod problem;
pub mod server;
pub mod service;
