//! Simulated clients that load a server and judge its replies.
//!
//! `Population` is the clients, without I/O: frames and the time go in, frames come out. [`run`] joins them to a
//! network interface.
//!
//! A [`Volley`] has no such clients: its frames are written by an XDP program in the kernel, or here where that cannot
//! be, from one template and as fast as they can be sent; [`fire()`] sends it, and the replies are judged by themselves.
//! [`replay()`] sends the frames of a [`Capture`].

mod capture;
mod client;
mod fire;
mod frame;
mod judge;
mod kernel;
mod plan;
mod population;
mod relay;
mod replay;
mod retransmission;
mod runner;
mod server_message;
mod shared;
mod socket;
mod state;
mod summary;
mod template;
#[cfg(test)]
mod tests;
mod timers;
mod volley;

pub use capture::{Capture, CaptureError};
pub use fire::fire;
pub use frame::Frame;
pub use plan::{Ask, Mix, MixError, Mode, Pace, Plan, Step, Wrong};
pub use relay::Relays;
pub use replay::{Replay, ReplaySummary, replay};
pub use runner::{Progress, RunError, run};
pub use summary::{Dad, Latency, LatencyClass, StepSummary, Storm, Summary};
pub use template::Template;
pub use volley::{Engine, Receiver, Volley, VolleyProgress, VolleySummary};
