//! Simulated clients that load a server and judge its replies.
//!
//! [`Population`] is the clients, without I/O: frames and the time go in, frames come out. [`run`] joins it to a
//! network interface.

mod client;
mod frame;
mod plan;
mod population;
mod retransmission;
mod runner;
mod server_message;
mod socket;
mod state;
mod summary;
#[cfg(test)]
mod tests;

pub use frame::Frame;
pub use plan::{Mode, Pace, Plan, Wrong};
pub use population::Population;
pub use runner::{RunError, run};
pub use summary::{Latency, LatencyClass, Storm, Summary};
