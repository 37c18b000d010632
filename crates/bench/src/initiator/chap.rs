//! CHAP (RFC 1994 as RFC 7143 §12.1.3 uses it).

/// The response to a challenge: a hash of identifier, secret and challenge. `None` if the algorithm is not known.
pub fn response(algorithm: &str, id: u8, secret: &str, challenge: &[u8]) -> Option<Vec<u8>> {
    let text = [&[id], secret.as_bytes(), challenge].concat();
    match algorithm {
        "5" => Some(<md5::Md5 as md5::Digest>::digest(text).to_vec()),
        "7" => Some(<sha2::Sha256 as sha2::Digest>::digest(text).to_vec()),
        "8" => Some(<sha3::Sha3_256 as sha3::Digest>::digest(text).to_vec()),
        _ => None,
    }
}

/// Bytes as a `0x…` hex constant.
pub fn emit_binary(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads a `0x…` or `0b…` constant (RFC 7143 §6.1: hex or base64). `None` if it is neither.
pub fn parse_binary(text: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = text.split_at_checked(2)?;
    match prefix {
        "0x" | "0X" => parse_hex(digits),
        "0b" | "0B" => parse_base64(digits),
        _ => None,
    }
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

fn parse_base64(digits: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes().filter(|digit| *digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{emit_binary, parse_binary, response};

    #[test]
    fn the_response_is_the_md5_of_id_secret_and_challenge() {
        // md5sum of the bytes 01 "secret" 02 03.
        assert_eq!(emit_binary(&response("5", 1, "secret", &[2, 3]).unwrap()), EXPECTED);
    }

    #[test]
    fn binary_values_are_read_in_hex_and_in_base64() {
        assert_eq!(parse_binary("0x00ff"), Some(vec![0, 255]));
        assert_eq!(parse_binary("0bAP8="), Some(vec![0, 255]));
        assert_eq!(parse_binary("0xabc"), None);
        assert_eq!(parse_binary("12"), None);
    }

    const EXPECTED: &str = "0xf506c24f35d1c70e450edb8fdf933478";
}
