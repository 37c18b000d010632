//! The node's REST interface over its Unix socket, by hand: no code is shared with the client that ships.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Creating a pool preallocates its file; on a busy disk that takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// Talks to one node.
#[derive(Clone, Debug)]
pub struct Admin {
    socket: PathBuf,
}

/// An answer that is no success: status and what the problem document says.
#[derive(Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}: {}", self.status, self.body)
    }
}

impl std::error::Error for Problem {}

impl Admin {
    /// Through the socket at `path`.
    pub fn new(path: &Path) -> Self {
        Self { socket: path.to_owned() }
    }

    /// GET.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, None)
    }

    /// GET of something that is no JSON document.
    pub fn get_bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (status, body) = self.exchange("GET", path, None)?;
        ensure!(status == 200, "HTTP {status}");
        Ok(body)
    }

    /// POST of a JSON document.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("POST", path, Some(body))
    }

    /// PUT of a JSON document.
    pub fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("PUT", path, Some(body))
    }

    /// PATCH with a JSON document.
    pub fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("PATCH", path, Some(body))
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call("DELETE", path, None)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, body) = self.exchange(method, path, body)?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        if (200..300).contains(&status) { Ok(body) } else { bail!(Problem { status, body }) }
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket).context("the administration socket does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: dyad\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the HTTP head")?;
        let head = std::str::from_utf8(&answer[..end])?;
        ensure!(!head.to_ascii_lowercase().contains("chunked"), "a chunked answer, which is not read here");
        let status = head.split_whitespace().nth(1).context("no HTTP status")?.parse()?;
        Ok((status, answer[end + 4..].to_vec()))
    }
}
