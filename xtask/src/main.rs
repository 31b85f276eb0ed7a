//! Sets up, builds, demonstrates and tests the server.
fn main() {}
