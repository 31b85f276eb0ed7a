//! dhcp6flood
fn main() {}
