//! Sockets and interfaces.

mod batch;
mod features;
mod frame;
mod inherited;
mod interface;
mod kind;
mod membership;
mod observer;
pub(crate) mod packet;
mod request;
mod socket;
mod tagged;
mod watch;

pub use features::VlanFeatures;
pub use frame::Tags;
pub use inherited::InheritedSocket;
pub use interface::{Interface, InterfaceError, neighbor_limit, netns_cookie};
pub use kind::InterfaceKind;
pub use membership::{hold_group, release_group};
pub use observer::FrameObserver;
pub use socket::{Datagram, Path, RECEIVE_BUFFER, ServerSocket, SocketError};
pub use tagged::TaggedSocket;
pub use watch::{InterfaceNews, InterfaceWatch};
