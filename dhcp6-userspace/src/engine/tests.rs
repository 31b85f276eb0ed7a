//! The engine as clients and operators see it: given a server, when messages come, then these answers.
//!
//! Rows are those of the project's matrix of RFC 9915 requirements.

mod delegating;
mod durability;
mod encoding;
mod every_answer;
mod giving_back;
mod glancing;
mod lists;
mod message;
mod model;
mod options;
mod origins;
mod pairing;
mod reconfiguring;
mod relaying;
mod renewing;
mod requesting;
mod reserving;
mod server;
mod soliciting;
mod validation;
