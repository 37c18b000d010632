//! Asks a node: HTTP/1.1 over its Unix socket, or over TCP.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dyad_api::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::args::Reach;
use crate::config;
use crate::failure::Failure;

/// Where `dyad quickstart` puts its socket by default.
const QUICKSTART_SOCKET: &str = "dyad-data/dyad.sock";
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A little longer than the node takes to give up by itself, for questions and for changes.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(40);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(620);
/// Largest answer: ten thousand volumes with their images.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A way to a node.
pub struct Client {
    place: Place,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

enum Place {
    Unix(PathBuf),
    Tcp(String),
}

impl Client {
    /// The way that the command line and the environment name.
    pub fn new(reach: &Reach) -> Result<Self, Failure> {
        let place = match (&reach.url, &reach.socket) {
            (Some(url), _) => Place::Tcp(authority(url)?),
            (None, Some(socket)) => Place::Unix(socket.clone()),
            (None, None) => Place::Unix(default_socket()),
        };
        let token = match &reach.token_file {
            Some(file) => Some(config::read_secret(file).map_err(Failure::Usage)?),
            None => env::var("DYAD_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}"), ""))?;
        Ok(Self { place, token, runtime })
    }

    /// Asks for something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.decode(&self.send(Method::GET, path, None, QUESTION_TIMEOUT)?)
    }

    /// What is there, as it is.
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.send(Method::GET, path, None, QUESTION_TIMEOUT).map(|body| body.to_vec())
    }

    /// Creates something.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.change(Method::POST, path, body)
    }

    /// Replaces something.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.change(Method::PUT, path, body)
    }

    /// Changes something.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.change(Method::PATCH, path, body)
    }

    fn change<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(error, ""))?;
        self.decode(&self.send(method, path, Some(body), CHANGE_TIMEOUT)?)
    }

    /// Deletes something.
    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None, CHANGE_TIMEOUT).map(|_| ())
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body)
            .map_err(|error| self.strange(format!("sent what this program cannot read: {error}")))
    }

    fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>, timeout: Duration) -> Result<Bytes, Failure> {
        let exchange = async {
            match &self.place {
                Place::Unix(socket) => {
                    let stream = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await;
                    self.exchange(self.connected(stream)?, method, path, body).await
                }
                Place::Tcp(authority) => {
                    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(authority)).await;
                    self.exchange(self.connected(stream)?, method, path, body).await
                }
            }
        };
        let late = || Failure::Unreachable {
            what: format!("the node at {} did not answer within {} s", self.shown(), timeout.as_secs()),
            advice: "its machine may be stuck; what was asked for may still happen".into(),
        };
        self.runtime.block_on(async { tokio::time::timeout(timeout, exchange).await }).unwrap_or_else(|_| Err(late()))
    }

    fn connected<S>(&self, outcome: Result<std::io::Result<S>, tokio::time::error::Elapsed>) -> Result<S, Failure> {
        let why = match outcome {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        Err(Failure::Unreachable {
            what: format!("no node can be reached at {}: {why}", self.shown()),
            advice: "start it with `dyad serve` or `systemctl start dyad`, or say where it is with --socket or --url"
                .into(),
        })
    }

    async fn exchange<S>(&self, stream: S, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |error: hyper::Error| self.strange(format!("broke off: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = self.request(method, path, body)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.strange(format!("broke off: {error}")))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match &self.place {
            Place::Unix(_) => "localhost",
            Place::Tcp(authority) => authority,
        };
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        request.body(body).map_err(|error| Failure::Usage(format!("the request cannot be sent: {error}")))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Failure::Refused(problem),
            Err(_) => self.strange(format!("answered {status}")),
        }
    }

    fn strange(&self, what: String) -> Failure {
        Failure::failed(
            format!("what listens at {} {what}", self.shown()),
            "is it a node of this version? `dyad --version` tells yours",
        )
    }

    fn shown(&self) -> String {
        match &self.place {
            Place::Unix(socket) => socket.display().to_string(),
            Place::Tcp(authority) => format!("http://{authority}"),
        }
    }
}

/// The service's socket, or that of a quickstart in the current directory.
fn default_socket() -> PathBuf {
    let service = Path::new(config::SOCKET_DEFAULT);
    let quickstart = Path::new(QUICKSTART_SOCKET);
    if !service.exists() && quickstart.exists() { quickstart.into() } else { service.into() }
}

/// `host:port` of a URL. TLS ends in a proxy or a tunnel, not here.
fn authority(url: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::Usage(format!("`{url}` cannot be asked: {why}"));
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(refuse("write http://address:port; for a node behind TLS use `ssh -L` to its socket or address"));
    };
    let authority = rest.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() && authority.chars().all(plain) => {
            Ok(authority.to_owned())
        }
        _ => Err(refuse("write an address and a port, such as http://127.0.0.1:8400")),
    }
}

/// A name as part of a path: all but unreserved characters are escaped (RFC 3986 section 2.3).
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{authority, escape};

    #[test]
    fn a_path_can_be_a_name() {
        assert_eq!(escape("/srv/a b.pool"), "%2Fsrv%2Fa%20b.pool");
        assert_eq!(escape("vm-1.x"), "vm-1.x");
    }

    #[test]
    fn only_plain_http_addresses_are_asked() {
        assert_eq!(authority("http://127.0.0.1:8400/").unwrap(), "127.0.0.1:8400");
        assert_eq!(authority("http://[::1]:8400").unwrap(), "[::1]:8400");
        for url in ["https://a:1", "http://a", "http://:1", "a:1", "http://a:1/b", "http://a b:1", "http://u@a:1"] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}
