//! dhcp6d
fn main() {}
