//! Key=value pairs of login and text PDUs (RFC 7143 §6.1).

/// Pairs in the order in which they came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keys(Vec<(String, String)>);

impl Keys {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one pair.
    pub fn push(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// The value of `key`, if it was sent.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Adds all pairs of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The pairs as a data segment: each ends with a zero byte.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in self.iter() {
            bytes.extend_from_slice(key.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads a data segment; what is no pair is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn pairs_survive_the_wire() {
        let mut keys = Keys::new();
        keys.push("HeaderDigest", "CRC32C,None").push("MaxBurstLength", "262144");
        assert_eq!(Keys::parse(&keys.emit()), keys);
        assert_eq!(keys.find("MaxBurstLength"), Some("262144"));
        assert_eq!(keys.find("Nothing"), None);
    }
}
