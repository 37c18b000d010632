//! The token: where to go, whom to trust there, and what proves that an administrator wants it.

use std::fmt;
use std::str::FromStr;

use dyad_cluster::{Name, PEERS_MAX};

/// Bytes of the secret: nobody guesses it in the life of a token.
pub(crate) const SECRET_BYTES: usize = 16;
const HEAD: &str = "dyad1:";
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 2048;

/// A token: good once, for some minutes.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    /// The node that made it.
    pub node: Name,
    /// Where it is reached, tried in turn.
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate.
    pub(crate) authority: [u8; 32],
    pub(crate) secret: [u8; SECRET_BYTES],
}

/// The text is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is not a whole token; `dyad node token` on a node of the cluster prints one")]
pub struct ParseTokenError;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}{}@{}:", self.node, self.addresses.join(","))?;
        self.authority.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(":")?;
        self.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(HEAD).filter(|_| text.len() <= TOKEN_BYTES_MAX).ok_or(ParseTokenError)?;
        let mut parts = rest.rsplitn(3, ':');
        let mut next = || parts.next().ok_or(ParseTokenError);
        let (secret, authority, way) = (hex(next()?)?, hex(next()?)?, next()?);
        let (node, addresses) = way.split_once('@').ok_or(ParseTokenError)?;
        let node = node.parse().map_err(|_| ParseTokenError)?;
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if addresses.len() > PEERS_MAX || addresses.iter().any(String::is_empty) {
            return Err(ParseTokenError);
        }
        Ok(Self { node, addresses, authority, secret })
    }
}

fn hex<const N: usize>(text: &str) -> Result<[u8; N], ParseTokenError> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(ParseTokenError);
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| ParseTokenError)?;
    }
    Ok(bytes)
}

/// The secret is not shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("node", &self.node).field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let addresses = vec!["192.0.2.1:3261".to_owned(), "[2001:db8::1]:3261".to_owned()];
        Token { node: "one".parse().unwrap(), addresses, authority: [0xab; 32], secret: [0x5e; SECRET_BYTES] }
    }

    #[test]
    fn a_token_reads_back() {
        assert_eq!(format!("  {}\n", token()).parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("5e5e"));
    }

    #[test]
    fn what_is_cut_or_something_else_is_refused() {
        let text = token().to_string();
        for len in 0..text.len() {
            let part = text[..len].parse::<Token>();
            assert!(part.is_err(), "cut to {len}: {part:?}");
        }
        for wrong in ["", "dyad1:", "dyad1:one@:aa:bb", "dyad2:one@h:1", &format!("{text}0"), &text.replace("5e", "é")]
        {
            assert_eq!(wrong.parse::<Token>(), Err(ParseTokenError), "{wrong}");
        }
    }
}
