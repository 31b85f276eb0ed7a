//! The userspace plane of the DHCPv6 server.
//!
//! Layers point one way: [`time`] and the wire format of `dhcp6_common` lie at the bottom, then [`pool`]
//! (addresses and their state), [`lease`] (bindings and the durable store), [`config`] (what the operator
//! wants), and [`engine`] (the protocol, without I/O). Above it the modules that touch the system: [`clock`],
//! [`net`] (sockets), [`fastpath`] (BPF), [`control`] (the control socket), [`metrics`] (for Prometheus), and
//! [`daemon`], which runs them all.
//!
//! [`flood`] stands on the other side of the network: simulated clients that load a server.

pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod engine;
pub mod fastpath;
pub mod flood;
pub mod lease;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod time;
