//! What the `engine` and `relay` targets drive the engine with, and what they expect of it.
//!
//! A [`Scenario`] is made of the fuzzer's octets: a configuration (`setting`) and steps (`scenario`), most of them
//! rounds of messages (`message`), some of which come through relay agents (`relay`). `world` takes the steps as the
//! daemon, the store, the kernel and the clients would, and checks the invariants of the design after each; `reply`
//! checks each answer by itself against its question, with the reading of messages in `wire`. So does `envelope`, for
//! octets of which nothing is known.

mod envelope;
mod message;
mod relay;
mod reply;
mod scenario;
mod setting;
mod wire;
mod world;

pub use envelope::{mend, relayed};
pub use scenario::Scenario;
pub use world::run;
