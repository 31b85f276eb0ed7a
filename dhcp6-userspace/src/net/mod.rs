//! Sockets and interfaces.

mod assembly;
mod batch;
mod features;
mod frame;
mod frame_filter;
mod frames;
mod inherited;
mod interface;
mod kind;
mod membership;
pub(crate) mod packet;
mod request;
mod socket;
mod watch;

pub use features::VlanFeatures;
pub use frame::Tags;
pub use frame_filter::Heard;
pub use frames::FrameSocket;
pub use inherited::InheritedSocket;
pub use interface::{Interface, InterfaceError, neighbor_limit, netns_cookie};
pub use kind::InterfaceKind;
pub use membership::{hold_group, release_group};
pub use socket::{Datagram, Path, RECEIVE_BUFFER, ServerSocket, SocketError};
pub use watch::{InterfaceNews, InterfaceWatch};
