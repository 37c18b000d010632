//! Names that people give to nodes, sites, pools and volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest name: it becomes part of an iSCSI name (223 bytes, RFC 7143 §4.2.7.1) and of file names.
pub const NAME_BYTES_MAX: usize = 63;

/// A name: 1 to 63 of `a-z 0-9 - .`, beginning and ending with a letter or digit. These are characters that
/// an iSCSI name can hold unescaped (RFC 7143 §4.2.7.2).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

/// The text cannot be a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a name (use 1 to 63 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends)")]
pub struct ParseNameError(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_legal = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text.chars().all(|c| is_edge(c) || c == '-' || c == '.')
            && text.starts_with(is_edge)
            && text.ends_with(is_edge);
        if is_legal { Ok(Self(text.to_owned())) } else { Err(ParseNameError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn only_what_fits_an_iscsi_name_is_a_name() {
        for text in ["a", "vm-7", "db.prod.1", &"x".repeat(63)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for text in ["", "A", "-a", "a-", ".a", "a b", "ä", "a/b", "a:b", &"x".repeat(64)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
