//! `key=value` text of login and text PDUs (RFC 7143 §6.1).
//!
//! Text is read as it arrives: only the pair that is not yet complete is kept, so a login that stops half-way
//! holds a bounded, small amount of memory however much it announced.

use std::fmt::Display;

/// Longest key name (RFC 7143 §6.1, "standard-label").
pub const KEY_BYTES_MAX: usize = 63;

/// Longest value that is understood. Ordinary values have at most 255 bytes (§6.1); the longest of ours is a
/// CHAP challenge of 1024 bytes in hexadecimal (§12.1.3), 2050 characters.
pub const VALUE_BYTES_MAX: usize = 2304;

/// Longest iSCSI name (§4.2.7.1).
pub const NAME_BYTES_MAX: usize = 223;

/// The text is not made of pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextError {
    /// No `=`, or a key name that may not be.
    #[error("the text holds something that is not key=value")]
    NoPair,
    /// Key or value too long.
    #[error("a key or a value in the text is too long")]
    TooLong,
    /// Not UTF-8.
    #[error("a value in the text is not UTF-8")]
    NotText,
}

/// Takes text apart as it comes.
#[derive(Debug, Default)]
pub struct PairReader {
    partial: Vec<u8>,
}

impl PairReader {
    /// Reads on; `each` gets every pair that became complete.
    ///
    /// # Errors
    /// See [`TextError`]; what `each` returns is passed on.
    pub fn feed<E: From<TextError>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            let (pair, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.partial.is_empty() {
                take_pair(pair, &mut each)?;
            } else {
                self.keep(pair)?;
                let whole = std::mem::take(&mut self.partial);
                take_pair(&whole, &mut each)?;
            }
        }
        Ok(self.keep(bytes)?)
    }

    /// The request is complete. The last pair may lack its zero byte.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn finish<E: From<TextError>>(&mut self, mut each: impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
        take_pair(&std::mem::take(&mut self.partial), &mut each)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TextError> {
        if self.partial.len() + bytes.len() > KEY_BYTES_MAX + 1 + VALUE_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn take_pair<E: From<TextError>>(pair: &[u8], each: &mut impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
    if pair.is_empty() {
        return Ok(()); // padding within the segment
    }
    let equals = pair.iter().position(|&byte| byte == b'=').ok_or(TextError::NoPair)?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(TextError::TooLong.into());
    }
    if key.is_empty() || !key.iter().all(|&byte| is_label(byte)) {
        return Err(TextError::NoPair.into());
    }
    let key = std::str::from_utf8(key).map_err(|_| TextError::NoPair)?;
    each(key, std::str::from_utf8(value).map_err(|_| TextError::NotText)?)
}

fn is_label(byte: u8) -> bool {
    // Names of extension keys may hold `#` as well ("X#NodeArchitecture", §13.26).
    byte.is_ascii_alphanumeric() || b".-+@_#".contains(&byte)
}

/// Text to be sent.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct TextWriter {
    bytes: Vec<u8>,
}

impl TextWriter {
    /// Adds a pair.
    pub fn push(&mut self, key: &str, value: impl Display) {
        use std::io::Write;
        let written = write!(self.bytes, "{key}={value}\0");
        written.expect("a vector takes everything");
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Count of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A decimal or hexadecimal number (§6.1, "numerical-value").
pub fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (value, 10),
    };
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| char::from(byte).is_digit(radix));
    if is_plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

/// `Yes` or `No`.
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// How a boolean is written.
pub fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// A binary value in hexadecimal or base64 (§6.1, "large-binary-value"), of at most `max` bytes.
pub fn binary(value: &str, max: usize) -> Option<Vec<u8>> {
    let bytes = match value.as_bytes() {
        [b'0', b'x' | b'X', hex @ ..] => from_hex(hex)?,
        [b'0', b'b' | b'B', base64 @ ..] => from_base64(base64)?,
        _ => return None,
    };
    (bytes.len() <= max && !bytes.is_empty()).then_some(bytes)
}

/// Bytes in hexadecimal, as `0x…`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("less than 16");
    let digits = bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]);
    "0x".chars().chain(digits).collect()
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for &digit in odd {
        bytes.push(nibble(digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    Some(bytes)
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(unpadded.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for &symbol in unpadded {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // A lone sixth of a byte, or bits that say something, are not base64.
    (unpadded.len() % 4 != 1 && bits == 0).then_some(bytes)
}

/// Whether this may be an iSCSI name (§4.2.7.1). The type prefix is not insisted on: names are compared, not
/// taken apart.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != ',' && c != '=')
}

#[cfg(test)]
mod tests {
    use super::{PairReader, TextError, TextWriter, VALUE_BYTES_MAX, binary, hex, is_name, number};

    fn read(pieces: &[&[u8]]) -> Result<Vec<(String, String)>, TextError> {
        let mut reader = PairReader::default();
        let mut pairs = Vec::new();
        let mut each = |key: &str, value: &str| {
            pairs.push((key.to_owned(), value.to_owned()));
            Ok(())
        };
        for piece in pieces {
            reader.feed(piece, &mut each)?;
        }
        reader.finish(&mut each)?;
        Ok(pairs)
    }

    #[test]
    fn pairs_may_break_anywhere() {
        let text = b"InitiatorName=iqn.a:b\0HeaderDigest=CRC32C,None\0\0X#Y=\0Last=a=b";
        let whole = read(&[text]).unwrap();
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[3], ("Last".to_owned(), "a=b".to_owned()));
        for at in 0..text.len() {
            assert_eq!(read(&[&text[..at], &text[at..]]).unwrap(), whole, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(read(&[b"novalue\0"]), Err(TextError::NoPair));
        assert_eq!(read(&[b"=x\0"]), Err(TextError::NoPair));
        assert_eq!(read(&[b"a b=x\0"]), Err(TextError::NoPair));
        assert_eq!(read(&[b"a=\xff\0"]), Err(TextError::NotText));
        assert_eq!(read(&[&[b'k'; 64], b"=x\0"]), Err(TextError::TooLong));
    }

    #[test]
    fn a_pair_that_never_ends_is_refused_before_it_is_kept() {
        let mut reader = PairReader::default();
        let mut fed = 0;
        let error = loop {
            if let Err(error) = reader.feed::<TextError>(b"aaaaaaaa", |_, _| Ok(())) {
                break error;
            }
            fed += 8;
        };
        assert_eq!(error, TextError::TooLong);
        assert!(fed <= VALUE_BYTES_MAX + 64);
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        let cases = [("0", Some(0)), ("0x1F", Some(31)), ("4294967295", Some(u32::MAX)), ("007", Some(7))];
        let refused = ["", "-1", "+1", "4294967296", "0x", "1k", " 1"].map(|text| (text, None));
        for (text, expected) in cases.into_iter().chain(refused) {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(binary("0xABC", 9), Some(vec![0x0a, 0xbc]));
        assert_eq!(binary("0bSGVsbG8=", 9), Some(b"Hello".to_vec()));
        assert_eq!(binary("0bSGVsbG8", 9), Some(b"Hello".to_vec()));
        for refused in ["0x", "0xg0", "0bA", "0b*", "abc", "", "0bSGVsbG9="] {
            assert_eq!(binary(refused, 9), None, "{refused}");
        }
        assert_eq!(binary("0x010203", 2), None);
        assert_eq!(binary(&hex(&[0, 1, 255]), 3), Some(vec![0, 1, 255]));
    }

    #[test]
    fn names_have_no_blanks_and_a_bounded_length() {
        assert!(is_name("iqn.2001-04.com.example:disk1"));
        assert!(!is_name(""));
        assert!(!is_name("iqn a"));
        assert!(!is_name(&"x".repeat(224)));
    }

    #[test]
    fn written_text_reads_back() {
        let mut writer = TextWriter::default();
        writer.push("A", 1);
        writer.push("B", "x");
        assert_eq!(writer.as_bytes(), b"A=1\0B=x\0");
    }
}
