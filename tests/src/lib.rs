//! What the end-to-end tests share.

pub mod client;
pub mod frame;
pub mod netns;
pub mod server;
