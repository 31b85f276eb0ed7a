//! dhcp6ctl
fn main() {}
