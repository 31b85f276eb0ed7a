//! A daemon without privileges, scraped over HTTP.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};

use dhcp6_userspace::{
    config::Config,
    daemon::{Daemon, ServiceManager},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A daemon for relay agents only, which needs no interface. `metrics` is where it is scraped.
fn config(directory: &Path, port: u16, metrics: SocketAddr) -> Config {
    let directory = directory.display();
    let text = format!(
        r#"
[server]
state_dir = "{directory}/state"
port = {port}

[store]
kind = "memory"

[control]
socket = "{directory}/control.sock"

[metrics]
listen = "{metrics}"

[fast_path]
enabled = false

[[link]]
name = "relayed"
prefix = "2001:db8:1::/64"

[[link.pool]]
range = "2001:db8:1::1000-2001:db8:1::10ff"
"#
    );
    Config::parse(&text, "test.toml").unwrap()
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn free_tcp_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn scrape(address: SocketAddr) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: dhcp6d\r\n\r\n").await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    };
    timeout(Duration::from_secs(10), exchange).await?
}

#[tokio::test]
async fn a_daemon_is_scraped() {
    let directory = TempDir::new().unwrap();
    let (port, address) = (free_udp_port(), free_tcp_address());
    let daemon = Daemon::start(
        config(directory.path(), port, address),
        "unused.toml".into(),
        ServiceManager::default(),
    )
    .unwrap();
    let daemon = tokio::spawn(daemon.run());

    UdpSocket::bind("[::1]:0").unwrap().send_to(&[1, 2], ("::1", port)).unwrap();
    let mut response = scrape(address).await.unwrap();
    for _ in 0..100 {
        if response.contains("{reason=\"too_short\"} 1") {
            break;
        }
        response = scrape(address).await.unwrap();
    }

    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("content-type: application/openmetrics-text; version=1.0.0"), "{response}");
    for line in [
        concat!("dhcp6_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "dhcp6_slow_path_messages_dropped_total{reason=\"too_short\"} 1",
        "dhcp6_pool_addresses{link=\"relayed\",state=\"idle\"} 256",
        "dhcp6_store_ok 1",
        "# EOF",
    ] {
        assert!(response.lines().any(|shown| shown == line), "{line} is not in {response}");
    }
    daemon.abort();
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let Err(failure) = Daemon::start(
        config(directory.path(), free_udp_port(), address),
        "unused.toml".into(),
        ServiceManager::default(),
    ) else {
        panic!("the address is taken")
    };
    let message = format!("{failure:#}");
    assert!(
        message.starts_with(&format!("cannot serve metrics on {address} ([metrics] listen): ")),
        "{message}"
    );
    assert!(message.contains("in use"), "{message}");
}
