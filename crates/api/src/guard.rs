//! Who may ask. A Unix socket is guarded by its file mode; TCP by a token, or, on loopback only, by nothing but
//! the check that the request does not come out of somebody's browser.

use std::fmt;
use std::str::FromStr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::{Fault, Problem};

/// Who may ask at one listener.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Everybody who reaches it: the listener is a Unix socket, whose file mode decides.
    FileMode,
    /// Everybody on this machine, web pages in their browsers excepted: TCP on loopback.
    Loopback,
    /// Whoever shows the token with this hash.
    Token(TokenHash),
}

/// SHA-256 of a token. A token is 256 random bits, so that no slow hash is needed to keep it from being guessed.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenHash([u8; 32]);

/// The text was not a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a token's hash has 64 hexadecimal digits; `dyad token` makes a token and its hash")]
pub struct ParseTokenHashError;

impl TokenHash {
    /// The hash of this token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether this is the hash of `token`; takes the same time whatever differs.
    pub fn matches(&self, token: &str) -> bool {
        Self::of(token).0.ct_eq(&self.0).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(hidden)")
    }
}

impl FromStr for TokenHash {
    type Err = ParseTokenHashError;

    fn from_str(text: &str) -> Result<Self, ParseTokenHashError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(ParseTokenHashError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ParseTokenHashError);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

/// Lets a request through, or answers it.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match admit(&guard, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admit(guard: &Guard, headers: &HeaderMap) -> Result<(), Problem> {
    match guard {
        Guard::FileMode => Ok(()),
        Guard::Loopback => not_a_web_page(headers),
        Guard::Token(hash) => match headers.get(AUTHORIZATION).and_then(bearer) {
            Some(token) if hash.matches(token) => Ok(()),
            shown => Err(Problem::new(
                Fault::Unauthorized,
                if shown.is_some() { "the token is not the right one" } else { "this address wants a token" },
                "give the token with `--token-file FILE` or in the environment variable DYAD_TOKEN",
            )),
        },
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A page may send requests to loopback from the administrator's browser, directly (it then has an `Origin`) or
/// after rebinding its own name to 127.0.0.1 (the `Host` is then that name).
fn not_a_web_page(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit())).map_or(host, |h| h.0);
    let is_address = || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let is_local = matches!(name, "localhost" | "[::1]") || is_address();
    if is_local && !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    Err(Problem::new(
        Fault::Forbidden,
        "without a token this address answers only programs on this machine, not web pages",
        "ask for 127.0.0.1 or localhost, or set `api.token_sha256` in the node's configuration",
    ))
}

#[cfg(test)]
mod tests {
    use super::{Guard, TokenHash, admit};
    use axum::http::HeaderMap;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_known_by_its_hash_only() {
        let hash = TokenHash::of("secret");
        assert_eq!(hash.to_string(), "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        assert_eq!(hash.to_string().parse(), Ok(hash.clone()));
        assert!(!format!("{hash:?}").contains("2bb8"));
        assert!("2bb8".parse::<TokenHash>().is_err() && "g".repeat(64).parse::<TokenHash>().is_err());
    }

    #[test]
    fn only_the_right_token_opens() {
        let guard = Guard::Token(TokenHash::of("secret"));
        assert!(admit(&guard, &headers(&[("authorization", "Bearer secret")])).is_ok());
        for wrong in ["Bearer Secret", "Basic secret", "secret", "Bearer", "Bearer "] {
            assert!(admit(&guard, &headers(&[("authorization", wrong)])).unwrap_err().is("unauthorized"), "{wrong}");
        }
        assert!(admit(&guard, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_web_page_cannot_reach_a_loopback_listener_without_token() {
        for good in ["127.0.0.1:8080", "localhost", "localhost:1", "[::1]:9"] {
            assert!(admit(&Guard::Loopback, &headers(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in ["evil.example", "evil.example:80", "", "localhost.evil.example", "127.evil.example"] {
            assert!(admit(&Guard::Loopback, &headers(&[("host", bad)])).is_err(), "{bad}");
        }
        let page = headers(&[("host", "127.0.0.1:8080"), ("origin", "https://evil.example")]);
        assert!(admit(&Guard::Loopback, &page).unwrap_err().is("forbidden"));
    }
}
