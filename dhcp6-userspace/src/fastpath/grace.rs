//! The end of what programs are at.

use nix::libc;

/// The command of membarrier(2) that waits for an RCU grace period: Linux 4.3, commit 5b25b13ab08f.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every program that was running has ended, some milliseconds. A program that was replaced on its interface
/// before touches no map any more when this returns: it runs with softirqs disabled, which a grace period waits for.
#[expect(unsafe_code, reason = "nix has no membarrier")]
pub fn wait_for_programs() {
    // SAFETY: the call takes numbers and writes nothing. Where it is not permitted nothing is waited for.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}
