//! The HTTP server of the metrics.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderName},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Snapshot, render};

/// The one page.
const PATH: &str = "/metrics";
/// What the page is: OpenMetrics 1.0, section "Text format".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// No request is longer than this, in octets; it is the least that hyper works with.
const LONGEST_REQUEST: usize = 8192;
/// How long to wait where no connection can be accepted, for one because descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What keeps clients from tying up the daemon.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at the same time; others wait in the kernel.
    connections: usize,
    /// How long a connection may take, from its first octet to its last.
    patience: Duration,
}

const LIMITS: Limits = Limits { connections: 8, patience: Duration::from_secs(5) };

/// A scrape on its way to the daemon: where its snapshot goes.
pub type Scrape = oneshot::Sender<Snapshot>;

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
    scrapes: mpsc::Receiver<Scrape>,
}

impl MetricsServer {
    /// Listens on `address`; port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// The system's: `AddrInUse` where somebody else listens there.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        Self::listen_within(address, LIMITS)
    }

    fn listen_within(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = StdTcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        // Room for one, so that scrapes and the daemon's own work take turns.
        let (sender, scrapes) = mpsc::channel(1);
        let task = tokio::spawn(accept(listener, limits, sender));
        Ok(Self { address, task, scrapes })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next scrape.
    pub async fn next(&mut self) -> Option<Scrape> {
        self.scrapes.recv().await
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        // The connections end with the task that holds them.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, limits: Limits, daemon: mpsc::Sender<Scrape>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= limits.connections {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, client)) => {
                let daemon = daemon.clone();
                connections.spawn(async move {
                    match timeout(limits.patience, converse(stream, daemon)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(failure)) => debug!("no metrics for {client}: {failure}"),
                        Err(_) => debug!("no metrics for {client}: it took too long"),
                    }
                });
            }
            Err(failure) => {
                debug!("cannot accept a connection for metrics: {failure}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one request.
async fn converse(stream: TcpStream, daemon: mpsc::Sender<Scrape>) -> hyper::Result<()> {
    let answer = service_fn(|request| {
        let daemon = daemon.clone();
        async move { Ok::<_, Infallible>(answer(&request, daemon).await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_REQUEST)
        // The whole connection has a time limit.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer<B>(request: &Request<B>, daemon: mpsc::Sender<Scrape>) -> Response<String> {
    const PLAIN: (HeaderName, &str) = (CONTENT_TYPE, "text/plain; charset=utf-8");
    if request.uri().path() != PATH {
        return response(StatusCode::NOT_FOUND, PLAIN, format!("metrics are at {PATH}\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET, HEAD"), String::new());
    }
    let (scrape, snapshot) = oneshot::channel();
    if daemon.send(scrape).await.is_ok()
        && let Ok(snapshot) = snapshot.await
        && let Ok(text) = render(snapshot)
    {
        return response(StatusCode::OK, (CONTENT_TYPE, OPEN_METRICS), text);
    }
    response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the daemon is stopping\n".to_owned())
}

fn response(status: StatusCode, (name, value): (HeaderName, &'static str), body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::{Ipv4Addr, SocketAddr},
        time::{Duration, Instant},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    use super::{Limits, MetricsServer};

    fn listen(limits: Limits) -> MetricsServer {
        MetricsServer::listen_within((Ipv4Addr::LOCALHOST, 0).into(), limits).unwrap()
    }

    async fn exchange(server: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    }

    #[tokio::test]
    async fn only_one_page_is_there_and_only_to_be_read() {
        let server = listen(Limits { connections: 1, patience: Duration::from_secs(10) });
        for (request, status) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 404 Not Found"),
            ("GET /metrics/x HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 404 Not Found"),
            (
                "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 405 Method Not Allowed",
            ),
            ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ] {
            let response = exchange(server.address(), request).await.unwrap();
            assert_eq!(response.lines().next(), Some(status), "{request}");
        }
    }

    #[tokio::test]
    async fn a_daemon_that_stops_says_so() {
        let mut server = listen(Limits { connections: 1, patience: Duration::from_secs(10) });
        let request = exchange(server.address(), "GET /metrics?all HTTP/1.1\r\nhost: a\r\n\r\n");
        let (response, ()) = tokio::join!(request, async { drop(server.next().await) });
        assert!(response.unwrap().starts_with("HTTP/1.1 503 "));
    }

    #[tokio::test]
    async fn silent_clients_are_cut_off_and_others_served() {
        let patience = Duration::from_millis(200);
        let server = listen(Limits { connections: 2, patience });
        let started = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(TcpStream::connect(server.address()).await.unwrap());
        }
        let response =
            timeout(Duration::from_secs(20), exchange(server.address(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(response.await.unwrap().unwrap().starts_with("HTTP/1.1 404 "));
        assert!(started.elapsed() >= 2 * patience, "no more than two connections at once");
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed");
        }
    }
}
