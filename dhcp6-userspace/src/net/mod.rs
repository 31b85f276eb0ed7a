//! Sockets and interfaces.

mod interface;
mod socket;

pub use interface::{Interface, InterfaceError};
pub use socket::{Datagram, Path, ServerSocket, SocketError};
