//! What the end-to-end tests share.

pub mod capture;
pub mod client;
pub mod describe;
pub mod frame;
pub mod netns;
pub mod server;
pub mod xdp;
