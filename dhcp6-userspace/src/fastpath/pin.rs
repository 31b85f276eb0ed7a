//! Pins, as far as aya does not show what is behind them.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::libc;

/// The command of bpf(2).
const BPF_OBJ_GET: libc::c_int = 7;

/// What bpf(2) takes to open a pin.
#[repr(C)]
struct ObjectAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Whether a pinned link holds nothing any more, its interface being gone: the kernel shows its index as 0 then
/// (`bpf_xdp_link_show_fdinfo`).
pub(super) fn is_defunct(pin: &Path) -> bool {
    let fdinfo =
        open(pin).and_then(|link| fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())));
    fdinfo.is_ok_and(|text| {
        let mut lines = text.lines();
        lines.any(|line| line.strip_prefix("ifindex:").is_some_and(|index| index.trim() == "0"))
    })
}

#[expect(unsafe_code, reason = "aya opens pins, but does not show the descriptor of a link")]
fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the kernel reads the attributes and a path that ends with a zero, both alive, and keeps neither.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const attributes, size_of::<ObjectAttributes>())
    };
    let fd = nix::Error::result(fd)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
