//! Sockets and interfaces.

mod interface;
mod socket;

pub use interface::{Interface, InterfaceError, neighbor_limit};
pub use socket::{Datagram, Path, ServerSocket, SocketError};
