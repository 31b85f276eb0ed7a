//! Sockets and interfaces.

mod interface;
mod observer;
pub(crate) mod packet;
mod socket;

pub use interface::{Interface, InterfaceError, neighbor_limit};
pub use observer::FrameObserver;
pub use socket::{Datagram, Path, ServerSocket, SocketError};
